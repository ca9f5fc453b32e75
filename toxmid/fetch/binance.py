"""The public archive of Binance: a zip per market, kind, symbol and day or month, with its SHA-256 beside it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from toxmid.disk import exclusive, whole
from toxmid.errors import FileError, ParameterError
from toxmid.fetch.dates import Day, days, months, span
from toxmid.fetch.download import Downloader, Fetched, checked_base, digest
from toxmid.progress import Progress

__all__ = ["BINANCE_ARCHIVE", "KINDS", "Market", "fetch_binance"]

BINANCE_ARCHIVE: Final = "https://data.binance.vision"

Market = Literal["spot", "um", "cm"]

# Folders of the markets, and the kinds among what they hold that are tapes. Liquidations: the folder of USD-M is empty.
_FOLDERS: Final[dict[str, str]] = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "spot": ("aggTrades", "trades"),
    "um": ("aggTrades", "trades", "bookTicker", "bookDepth", "metrics", "fundingRate"),
    "cm": ("aggTrades", "trades", "bookTicker", "liquidationSnapshot", "bookDepth", "metrics", "fundingRate"),
}
# Kinds that are there by day or by month only; all others are there by both.
_PERIODS: Final[dict[str, tuple[str, ...]]] = {
    "liquidationSnapshot": ("daily",),
    "bookDepth": ("daily",),
    "metrics": ("daily",),
    "fundingRate": ("monthly",),
}
_SYMBOL: Final = re.compile(r"[A-Z0-9]+(?:_[A-Z0-9]+)?")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LOCK: Final = ".toxmid-fetch.lock"


def fetch_binance(
    destination: str | Path,
    *,
    market: Market,
    kind: str,
    symbols: str | Sequence[str],
    start: Day,
    end: Day | None = None,
    period: Literal["daily", "monthly"] | None = None,
    base_url: str = BINANCE_ARCHIVE,
    connections: int = 4,
    retries: int = 6,
    timeout: float = 30.0,
    refresh: bool = False,
    progress: bool = False,
) -> list[Fetched]:
    """Fetch tapes from the public archive of Binance.

    Parameters
    ----------
    destination : path
        Folder; below it files stand as in the archive (``futures/um/daily/trades/BTCUSDT/...``), because spot and
        futures have files of one name.
    market : {"spot", "um", "cm"}
        Spot, USD-M futures, COIN-M futures.
    kind : str
        ``"aggTrades"``, ``"trades"``; for futures also ``"bookTicker"``, ``"bookDepth"``, ``"fundingRate"`` and
        ``"metrics"`` (open interest); for COIN-M also ``"liquidationSnapshot"``.
    symbols : str or list of str
        As the venue writes them, ``"BTCUSDT"``, ``"BTCUSD_PERP"``.
    start, end : str or date
        Days from `start` to before `end`; one day when `end` is left out.
    period : {"daily", "monthly"}, optional
        Files of a day, or of every month that has a day of the period. By day when left out; funding is there by month
        only, what is sampled (depth, metrics) and liquidations by day only.
    base_url : str
        Another host with the same layout.
    connections : int
        Files fetched at once.
    retries : int
        Failures in a row (too many requests, errors of the server, silence, cuts) after which a file is given up.
    timeout : float
        Silence that counts as a failure, seconds.
    refresh : bool
        Ask for the checksums of files that are there, too: the archive replaces files now and then.
    progress : bool
        Show a line on stderr, where that is a terminal.

    Returns
    -------
    list of Fetched
        In the order of symbols and days. A day that the archive does not have is ``"missing"``, which is no error
        unless all are.

    Raises
    ------
    FileError
        The server refuses, cannot be reached or sends bytes with another checksum; the disk does not take them; or the
        archive has none of the files. What is complete stays, and the next call goes on from there.
    ParameterError
        A market, kind, symbol or period that cannot be.
    """
    names = [symbols] if isinstance(symbols, str) else list(symbols)
    _check(market, kind, names, connections)
    period = _period(kind, period)
    base = checked_base(base_url)
    first, last = span(start, end)
    dates = days(first, last) if period == "daily" else months(first, last)
    folder = PurePosixPath(_FOLDERS[market]) / period / kind
    paths = [folder / symbol / f"{symbol}-{kind}-{date}.zip" for symbol in names for date in dates]
    root = Path(destination)
    with exclusive(root / _LOCK), Progress(label="fetch", unit="bytes", quiet=not progress) as bar:
        downloader = Downloader(retries=retries, timeout=timeout, on_bytes=_counter(bar))
        archive = _Archive(downloader, base, root, refresh)
        fetched = _all(archive, paths, connections)
    if all(file.status == "missing" for file in fetched):
        raise FileError("the archive has none of these files", file=fetched[0].url, found=f"{len(fetched)} missing")
    return fetched


def _period(kind: str, wanted: str | None) -> Any:
    """By day or by month, as far as the archive leaves a choice."""
    there = _PERIODS.get(kind, ("daily", "monthly"))
    if wanted is not None and wanted not in there:
        message = f"the archive has no such files of {kind}"
        raise ParameterError(message, column="period", found=wanted, expected=", ".join(there))
    return wanted or there[0]


def _check(market: str, kind: str, symbols: Sequence[str], connections: int) -> None:
    if market not in KINDS:
        raise ParameterError("unknown market", column="market", found=market, expected=", ".join(KINDS))
    if kind not in KINDS[market]:
        expected = f"{', '.join(KINDS[market])} for market {market}"
        raise ParameterError("the archive has no such tapes", column="kind", found=kind, expected=expected)
    if not symbols:
        raise ParameterError("no symbol was given", column="symbols")
    for symbol in symbols:
        if not _SYMBOL.fullmatch(symbol):
            raise ParameterError("not a symbol", column="symbols", found=symbol, expected="such as BTCUSDT")
    if connections < 1:
        raise ParameterError("out of range", column="connections", found=connections, expected="1 or more")


def _counter(bar: Progress) -> Callable[[int], None]:
    lock = threading.Lock()

    def count(size: int) -> None:
        with lock:
            bar.advance(size)

    return count


def _all(archive: _Archive, paths: Sequence[PurePosixPath], connections: int) -> list[Fetched]:
    """All files; the first that fails, and an interrupt, stop those under way."""
    with ThreadPoolExecutor(max_workers=connections) as pool:
        pending = [pool.submit(archive.fetch, path) for path in paths]
        try:
            wait(pending, return_when=FIRST_EXCEPTION)
            for future in pending:
                if future.done():
                    future.result()
            return [future.result() for future in pending]
        except BaseException:
            archive.downloader.stop.set()
            for future in pending:
                future.cancel()
            raise


@dataclass(frozen=True)
class _Archive:
    """The archive on one side, the folder on the other."""

    downloader: Downloader
    base: str
    root: Path
    refresh: bool

    def fetch(self, relative: PurePosixPath) -> Fetched:
        """One file: looked at if it is there, else fetched."""
        path, url = self.root / relative, f"{self.base}/data/{relative}"
        known = path.with_name(f"{path.name}.CHECKSUM")
        if not self.refresh and path.exists() and digest(path) == _known(known, path):
            return Fetched(path, url, "present", path.stat().st_size)
        text = self.downloader.text(f"{url}.CHECKSUM")
        if text is None:
            return Fetched(path, url, "missing")
        sha256 = _sha256(text, f"{url}.CHECKSUM", path.name)
        present = path.exists() and digest(path) == sha256
        if not present and not self.downloader.file(url, path, sha256):
            return Fetched(path, url, "missing")
        with whole(known) as partial:
            partial.write_text(text, encoding="utf-8")
        return Fetched(path, url, "present" if present else "fetched", path.stat().st_size)


def _known(checksum: Path, path: Path) -> str | None:
    """The checksum that an earlier fetch has left, if it is one."""
    if not checksum.is_file():
        return None
    try:
        return _sha256(checksum.read_text(encoding="utf-8", errors="replace"), str(checksum), path.name)
    except FileError:
        return None


def _sha256(text: str, source: str, name: str) -> str:
    words = text.split()
    if len(words) != 2 or not _SHA256.fullmatch(words[0].lower()) or words[1].lstrip("*") != name:
        raise FileError("not a checksum", file=source, found=text[:80], expected=f"<sha256>  {name}")
    return words[0].lower()
