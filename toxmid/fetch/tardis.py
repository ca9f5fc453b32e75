"""Downloadable CSV of Tardis.dev, by way of the vendor's own client: the extra ``tardis``."""

from __future__ import annotations

import datetime as dt
import gzip
import importlib
import os
import re
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from toxmid.disk import exclusive
from toxmid.errors import FileError, ParameterError
from toxmid.fetch.dates import Day, days, span
from toxmid.fetch.download import Fetched, checked_base

__all__ = ["DATA_TYPES", "fetch_tardis"]

# What the readers know among the vendor's data types.
DATA_TYPES: Final = (
    "trades",
    "incremental_book_L2",
    "quotes",
    "book_ticker",
    "book_snapshot_5",
    "book_snapshot_25",
    "liquidations",
    "derivative_ticker",
    "options_chain",
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_STRANGE: Final = re.compile(r'[:\\/?*<>|"]')
_LOCK: Final = ".toxmid-fetch.lock"
_KEY: Final = "TARDIS_API_KEY"


def fetch_tardis(
    destination: str | Path,
    *,
    exchange: str,
    data_types: str | Sequence[str],
    symbols: str | Sequence[str],
    start: Day,
    end: Day | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    connections: int = 4,
    timeout: float = 1800.0,
) -> list[Fetched]:
    """Fetch tapes from Tardis.dev. The first day of each month is free, every other needs a key.

    Parameters
    ----------
    destination : path
        Folder; files are named ``<exchange>_<data type>_<day>_<symbol>.csv.gz``.
    exchange : str
        As the vendor writes it, ``"binance-futures"``.
    data_types : str or list of str
        Any of `DATA_TYPES`.
    symbols : str or list of str
        As the vendor writes them.
    start, end : str or date
        Days from `start` to before `end`; one day when `end` is left out.
    api_key : str, optional
        The environment variable ``TARDIS_API_KEY`` when left out.
    base_url : str, optional
        Another host with the same layout.
    connections : int
        Files fetched at once.
    timeout : float
        Silence that counts as a failure, seconds.

    Returns
    -------
    list of Fetched
        In the order of symbols, data types and days. A file without rows is what the vendor gives for a day on which
        nothing happened.

    Raises
    ------
    FileError
        The vendor refuses, cannot be reached, or has no such file; a file that arrived is no gzip file.
    ParameterError
        The package ``tardis-dev`` is not installed; a data type or period that cannot be.
    """
    download = _client()
    kinds = [data_types] if isinstance(data_types, str) else list(data_types)
    names = [symbols] if isinstance(symbols, str) else list(symbols)
    _check(exchange, kinds, names, connections)
    first, last = span(start, end)
    root = Path(destination)
    dates = [dt.datetime.fromisoformat(day) for day in days(first, last)]
    wanted = [root / _file_name(exchange, kind, date, symbol) for symbol in names for kind in kinds for date in dates]
    options: dict[str, Any] = {} if base_url is None else {"endpoint": checked_base(base_url)}
    with exclusive(root / _LOCK):
        there = {path for path in wanted if path.exists()}
        _run(
            download,
            exchange=exchange,
            data_types=kinds,
            symbols=names,
            from_date=first.isoformat(),
            to_date=last.isoformat(),
            api_key=os.environ.get(_KEY, "") if api_key is None else api_key,
            download_dir=str(root),
            timeout=timeout,
            concurrency=connections,
            get_filename=_file_name,
            **options,
        )
        for path in wanted:
            if path not in there:
                _check_arrived(path)
    return [Fetched(path, path.name, "present" if path in there else "fetched", path.stat().st_size) for path in wanted]


def _client() -> Callable[..., None]:
    try:
        client: Callable[..., None] = importlib.import_module("tardis_dev").download_datasets
    except (ImportError, AttributeError) as error:
        raise ParameterError(
            "fetching from Tardis needs the package tardis-dev, which comes with the extra 'tardis'",
            found=str(error),
            expected="pip install 'toxmid[tardis]'",
        ) from None
    return client


def _check(exchange: str, kinds: Sequence[str], symbols: Sequence[str], connections: int) -> None:
    if not _NAME.fullmatch(exchange):
        raise ParameterError("not an exchange", column="exchange", found=exchange, expected="such as binance-futures")
    unknown = [kind for kind in kinds if kind not in DATA_TYPES]
    if unknown or not kinds:
        raise ParameterError("no tape", column="data_types", found=unknown, expected=", ".join(DATA_TYPES))
    if not symbols or not all(symbols):
        raise ParameterError("no symbol was given", column="symbols", found=list(symbols))
    if connections < 1:
        raise ParameterError("out of range", column="connections", found=connections, expected="1 or more")


def _file_name(exchange: str, kind: str, date: dt.datetime, symbol: str, format: str = "csv") -> str:
    return f"{exchange}_{kind}_{date:%Y-%m-%d}_{_STRANGE.sub('-', symbol.upper())}.{format}.gz"


def _run(download: Callable[..., None], **arguments: Any) -> None:
    """Call the client in a thread of its own: it refuses to run where an event loop runs, as in a notebook."""
    failures: tuple[type[Exception], ...] = (OSError, ValueError, importlib.import_module("aiohttp").ClientError)
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            pool.submit(download, **arguments).result()
        except failures as error:
            said = str(getattr(error, "msg", None) or error or type(error).__name__)
            raise FileError(f"Tardis: {said.splitlines()[0][:300]}", file=arguments["exchange"]) from error


def _check_arrived(path: Path) -> None:
    """Read a file that came now to its end, where gzip has the check of its bytes."""
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        path.unlink(missing_ok=True)
        raise FileError(f"not a whole gzip file: {error}", file=str(path)) from None
