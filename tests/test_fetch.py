"""Archives over HTTP, against a server on this machine that has every bad habit a server can have."""

from __future__ import annotations

import datetime as dt
import email.utils
import errno
import gzip
import hashlib
import os
import socket
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from toxmid.errors import FileError, ParameterError
from toxmid.fetch import BINANCE_ARCHIVE, Fetched, download, fetch_binance, fetch_tardis
from toxmid.fetch.dates import days, months, span

DAY = "data/futures/um/daily/trades/BTCUSDT/BTCUSDT-trades-2024-08-05.zip"
LOCAL = DAY.removeprefix("data/")
TAPE = os.urandom(1 << 20)


@dataclass
class Server:
    """Files, and for each path what to do with the requests for it, one after the other, before behaving well."""

    files: dict[str, bytes] = field(default_factory=dict)
    habits: dict[str, list[str]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def add(self, path: str, data: bytes = TAPE, *habits: str, checksum: str | None = None) -> None:
        name = path.rsplit("/", 1)[-1]
        self.files[f"/{path}"] = data
        text = f"{hashlib.sha256(data).hexdigest()}  {name}\n" if checksum is None else checksum
        self.files[f"/{path}.CHECKSUM"] = text.encode()
        self.habits[f"/{path}"] = list(habits)

    def requests(self, path: str = DAY) -> list[str | None]:
        """The ranges that were asked of a file."""
        return [span for asked, span in self.asked if asked == f"/{path}"]


class Handler(BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        state = self.server_state
        span = self.headers.get("Range")
        state.asked.append((self.path, span))
        waiting = state.habits.get(self.path, [])
        habit = waiting.pop(0) if waiting else "good"
        data = state.files.get(self.path)
        if data is None:
            self.answer(404, b"not here")
        elif habit.isdigit():
            self.answer(int(habit), b"busy")
        elif habit.startswith("wait "):
            self.answer(429, b"slow down", {"Retry-After": habit.removeprefix("wait ")})
        else:
            self.give(data, span, habit)

    def give(self, data: bytes, span: str | None, habit: str) -> None:
        begin = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        if habit.endswith("no ranges"):
            span, begin = None, 0
        if span and begin >= len(data):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        shift = -1000 if habit == "other range" else 0
        end = min(len(data), begin + 100_000) if habit == "short range" and span else len(data)
        body = data[begin + shift : end]
        if habit == "flip":
            body = bytes([body[0] ^ 1]) + body[1:]
        where = {"Content-Range": f"bytes {begin + shift}-{end - 1}/{len(data)}"} if span else {}
        cut = {"cut": 300_000, "cut, no ranges": 300_000, "cut early": 0}.get(habit)
        self.answer(206 if span else 200, body, where, cut=cut, stall=habit == "stall")

    def answer(
        self,
        code: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        cut: int | None = None,
        stall: bool = False,
    ) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:1000] if stall else body[:cut])
        if stall:
            self.wfile.flush()
            self.server_state.over.wait()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test says what was asked."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "_FIRST_BACKOFF_S", 0.001)
    state = Server()
    handler = type("Bound", (Handler,), {"server_state": state})
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    listener.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are the point
    state.address = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.over.set()
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.fixture
def fetch(server: Server, tmp_path: Path) -> Callable[..., list[Fetched]]:
    def _fetch(**changes: object) -> list[Fetched]:
        arguments = {
            "market": "um", "kind": "trades", "symbols": "BTCUSDT", "start": "2024-08-05", "base_url": server.address,
            "retries": 3, "timeout": 60.0, "connections": 1,
        } | changes  # fmt: skip
        return fetch_binance(tmp_path, **arguments)  # type: ignore[arg-type]

    return _fetch


# --- good servers ----------------------------------------------------------------------------------------------------


def test_a_day_arrives_with_its_checksum(server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path) -> None:
    server.add(DAY)
    (file,) = fetch()
    assert file == Fetched(tmp_path / LOCAL, f"{server.address}/{DAY}", "fetched", len(TAPE))
    assert file.path.read_bytes() == TAPE
    assert sorted(path.name for path in file.path.parent.iterdir()) == [file.path.name, f"{file.path.name}.CHECKSUM"]


def test_what_is_there_and_whole_is_not_asked_for(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path
) -> None:
    server.add(DAY)
    fetch()
    server.asked.clear()
    assert [file.status for file in fetch()] == ["present"]
    assert server.asked == []
    # Without its checksum it is looked at once more, but not fetched.
    (tmp_path / f"{LOCAL}.CHECKSUM").unlink()
    assert [file.status for file in fetch()] == ["present"]
    assert server.asked == [(f"/{DAY}.CHECKSUM", None)]


def test_what_was_damaged_on_the_disk_is_fetched_again(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path
) -> None:
    server.add(DAY)
    fetch()
    (tmp_path / LOCAL).write_bytes(TAPE[:-1])
    assert [file.status for file in fetch()] == ["fetched"]
    assert (tmp_path / LOCAL).read_bytes() == TAPE


def test_what_the_archive_has_replaced_is_seen_when_refreshed(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path
) -> None:
    server.add(DAY)
    fetch()
    server.add(DAY, b"corrected" * 1000)
    assert [file.status for file in fetch()] == ["present"]
    assert [file.status for file in fetch(refresh=True)] == ["fetched"]
    assert (tmp_path / LOCAL).read_bytes() == b"corrected" * 1000


def test_days_months_markets_and_symbols_have_their_folders(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path
) -> None:
    wanted = {
        "spot/daily/aggTrades/{0}/{0}-aggTrades-2024-02-29.zip": {"market": "spot", "kind": "aggTrades"},
        "futures/cm/monthly/trades/{0}/{0}-trades-2024-02.zip": {"market": "cm", "period": "monthly"},
        "futures/cm/daily/metrics/{0}/{0}-metrics-2024-02-29.zip": {"market": "cm", "kind": "metrics"},
        "futures/um/daily/bookDepth/{0}/{0}-bookDepth-2024-02-29.zip": {"kind": "bookDepth"},
        "futures/um/monthly/fundingRate/{0}/{0}-fundingRate-2024-02.zip": {"kind": "fundingRate"},
    }
    for path, arguments in wanted.items():
        symbols = ("AAAUSD_PERP", "BBBUSD_PERP")
        for symbol in symbols:
            server.add(f"data/{path.format(symbol)}", symbol.encode())
        fetched = fetch(symbols=symbols, start="2024-02-29", end=dt.date(2024, 3, 1), connections=2, **arguments)
        assert [file.path for file in fetched] == [tmp_path / path.format(symbol) for symbol in symbols]


def test_days_that_are_missing_are_told(server: Server, fetch: Callable[..., list[Fetched]]) -> None:
    server.add(DAY)
    fetched = fetch(start="2024-08-04", end="2024-08-07")
    assert [file.status for file in fetched] == ["missing", "fetched", "missing"]
    with pytest.raises(FileError, match="has none of these files"):
        fetch(start="2024-09-01", end="2024-09-03")


def test_a_checksum_without_its_file_is_missing(server: Server, fetch: Callable[..., list[Fetched]]) -> None:
    server.add(DAY)
    del server.files[f"/{DAY}"]
    with pytest.raises(FileError, match="has none"):
        fetch()


# --- bad servers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "habits",
    [
        ("500",),
        ("503", "502", "504"),
        ("cut",),
        ("cut", "cut", "cut"),
        ("cut", "500", "cut", "wait 0"),
        ("cut early", "cut early"),
        ("cut", "no ranges"),
        ("cut", "short range", "short range"),
        ("wait 0",),
    ],
)
def test_patience_gets_every_byte(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path, habits: tuple[str, ...]
) -> None:
    server.add(DAY, TAPE, *habits)
    (file,) = fetch()
    assert file.status == "fetched"
    assert (tmp_path / LOCAL).read_bytes() == TAPE


def test_silence_is_a_failure_like_others(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path
) -> None:
    server.add(DAY, TAPE, "stall", "stall")
    fetch(timeout=0.3, retries=1000)  # a slow machine is silent now and then, too
    assert (tmp_path / LOCAL).read_bytes() == TAPE
    assert len(server.requests()) >= 3


def test_after_a_cut_only_the_rest_is_asked_for(server: Server, fetch: Callable[..., list[Fetched]]) -> None:
    server.add(DAY, TAPE, "cut", "cut")
    fetch()
    assert server.requests() == [None, "bytes=300000-", "bytes=600000-"]


def test_another_run_goes_on_where_the_last_one_ended(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path
) -> None:
    server.add(DAY, TAPE, "cut", "500", "500")
    with pytest.raises(FileError, match=r"given up after 3 failures in a row.*HTTP 500"):
        fetch(retries=2)
    assert (tmp_path / f"{LOCAL}.part").stat().st_size == 300_000
    assert not (tmp_path / LOCAL).exists()
    server.asked.clear()
    fetch()
    assert server.requests() == ["bytes=300000-"]


def test_a_part_that_is_complete_needs_no_bytes(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path
) -> None:
    server.add(DAY)
    part = tmp_path / f"{LOCAL}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(TAPE)
    fetch()
    assert server.requests() == [f"bytes={len(TAPE)}-"]
    assert (tmp_path / LOCAL).read_bytes() == TAPE


@pytest.mark.parametrize("old", [b"x" * 1000, b"x" * (len(TAPE) + 1), b"x" * len(TAPE)])
def test_a_part_of_an_older_file_is_begun_anew(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path, old: bytes
) -> None:
    server.add(DAY)
    part = tmp_path / f"{LOCAL}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(old)
    fetch()
    assert (tmp_path / LOCAL).read_bytes() == TAPE
    assert server.requests()[-1] is None


def test_wrong_bytes_never_get_the_name(server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path) -> None:
    server.add(DAY, TAPE, "flip")
    with pytest.raises(FileError, match="other bytes than the archive's checksum says") as caught:
        fetch()
    assert caught.value.expected == hashlib.sha256(TAPE).hexdigest()
    assert list(tmp_path.rglob("*.zip*")) == []
    assert [file.status for file in fetch()] == ["fetched"]


@pytest.mark.parametrize("text", ["", "<html>maintenance</html>", f"{'0' * 64}  other.zip\n", "abc  x.zip\n"])
def test_what_is_no_checksum_is_refused(server: Server, fetch: Callable[..., list[Fetched]], text: str) -> None:
    server.add(DAY, TAPE, checksum=text)
    with pytest.raises(FileError, match="not a checksum"):
        fetch()


def test_another_range_than_asked_for_is_refused(server: Server, fetch: Callable[..., list[Fetched]]) -> None:
    server.add(DAY, TAPE, "cut", "other range")
    with pytest.raises(FileError, match="another range"):
        fetch()


def test_a_server_that_never_gets_further_is_given_up(server: Server, fetch: Callable[..., list[Fetched]]) -> None:
    # It knows no ranges, so every time the same bytes arrive: that is no progress.
    server.add(DAY, TAPE, *["cut, no ranges"] * 20)
    with pytest.raises(FileError, match=r"given up after 4 failures in a row: the connection ended after 300000"):
        fetch()
    assert len(server.requests()) == 4


@pytest.mark.parametrize("code", ["400", "401", "403", "451"])
def test_a_refusal_is_final(server: Server, fetch: Callable[..., list[Fetched]], code: str) -> None:
    server.add(DAY, TAPE, code)
    with pytest.raises(FileError, match=f"the server refuses: HTTP {code}"):
        fetch()
    assert len(server.requests()) == 1


def test_the_pause_that_a_server_asks_for_is_kept(server: Server, tmp_path: Path) -> None:
    moment = email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=290), usegmt=True)
    server.add(DAY, TAPE, "wait 17", f"wait {moment}", "wait soon")
    pauses: list[float] = []
    downloader = download.Downloader()
    downloader.stop.wait = lambda timeout=None: pauses.append(timeout or 0.0) or False  # type: ignore[func-returns-value,assignment,method-assign]
    assert downloader.file(f"{server.address}/{DAY}", tmp_path / "x.zip", hashlib.sha256(TAPE).hexdigest())
    assert pauses[0] == 17.0
    assert 17.0 < pauses[1] <= 290
    assert pauses[2] < 1.0  # no time at all in what it says: our own


def test_a_pause_beyond_all_patience_is_an_error(server: Server, fetch: Callable[..., list[Fetched]]) -> None:
    server.add(DAY, TAPE, "wait 86400")
    with pytest.raises(FileError, match=r"wants us to wait.*86400 s"):
        fetch()


def test_nobody_there_is_an_error(fetch: Callable[..., list[Fetched]]) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # taken, but nobody listens
        with pytest.raises(FileError, match="given up after 1 failures in a row"):
            fetch(base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}", retries=0)


def test_one_failure_stops_the_others(server: Server, fetch: Callable[..., list[Fetched]]) -> None:
    # All others have to wait for minutes, so only the failure can be what ends them.
    for day in days(dt.date(2024, 8, 1), dt.date(2024, 8, 31)):
        server.add(DAY.replace("2024-08-05", day), TAPE, "403" if day == "2024-08-02" else "wait 250")
    with pytest.raises(FileError, match="HTTP 403"):
        fetch(start="2024-08-01", end="2024-08-31", connections=2)
    assert len([path for path, _ in server.asked if path.endswith(".zip")]) < 15


def test_a_full_disk_is_said(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add(DAY)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=rf"\.zip: cannot be written: {os.strerror(errno.ENOSPC)}"):
        fetch()
    assert not (tmp_path / LOCAL).exists()


def test_two_fetches_into_one_folder_take_turns(
    server: Server, fetch: Callable[..., list[Fetched]], tmp_path: Path
) -> None:
    server.add(DAY, TAPE, "cut", "cut")
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(fetch()[0].status)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["fetched", "present"]
    assert (tmp_path / LOCAL).read_bytes() == TAPE


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"market": "options"}, "unknown market"),
        ({"kind": "klines"}, "no such tapes"),
        ({"kind": "liquidationSnapshot"}, "no such tapes"),
        ({"symbols": []}, "no symbol"),
        ({"symbols": "../../etc/passwd"}, "not a symbol"),
        ({"symbols": "btcusdt"}, "not a symbol"),
        ({"start": "2024-08-32"}, "not a day"),
        ({"start": dt.datetime(2024, 8, 5)}, "not a day"),
        ({"end": "2024-08-05"}, "ends before it starts"),
        ({"period": "hourly"}, "no such files of trades"),
        ({"kind": "fundingRate", "period": "daily"}, "no such files of fundingRate.*expected monthly"),
        ({"kind": "metrics", "period": "monthly"}, "no such files of metrics.*expected daily"),
        ({"market": "spot", "kind": "metrics"}, "no such tapes"),
        ({"connections": 0}, "connections"),
        ({"retries": -1}, "retries"),
        ({"timeout": 0.0}, "timeout"),
        ({"base_url": "file:///etc"}, "not an address"),
    ],
)
def test_what_cannot_be_fetched_is_refused(
    fetch: Callable[..., list[Fetched]], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        fetch(**changes)


def test_the_archive_is_the_default() -> None:
    assert BINANCE_ARCHIVE.startswith("https://")


def test_periods() -> None:
    assert days(*span("2024-12-31", "2025-01-02")) == ["2024-12-31", "2025-01-01"]
    assert months(*span(dt.date(2024, 12, 31), "2025-01-02")) == ["2024-12", "2025-01"]
    assert months(*span("2024-01-31", None)) == ["2024-01"]


# --- Tardis ----------------------------------------------------------------------------------------------------------

TARDIS = "binance-futures/trades/2024/08/01/BTCUSDT.csv.gz"


def test_tardis_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tardis_dev", None)
    with pytest.raises(ParameterError, match=r"extra 'tardis'.*toxmid\[tardis\]"):
        fetch_tardis(tmp_path, exchange="x", data_types="trades", symbols="BTCUSDT", start="2024-08-01")


def test_an_older_client_is_told_like_a_missing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tardis_dev", types.ModuleType("tardis_dev"))
    with pytest.raises(ParameterError, match="download_datasets"):
        fetch_tardis(tmp_path, exchange="x", data_types="trades", symbols="BTCUSDT", start="2024-08-01")


@pytest.fixture
def tardis(server: Server, tmp_path: Path) -> Callable[..., list[Fetched]]:
    pytest.importorskip("tardis_dev", reason="the extra 'tardis' is not installed")

    def _fetch(**changes: object) -> list[Fetched]:
        arguments = {
            "exchange": "binance-futures", "data_types": "trades", "symbols": "BTCUSDT", "start": "2024-08-01",
            "base_url": server.address, "timeout": 60,
        } | changes  # fmt: skip
        return fetch_tardis(tmp_path, **arguments)  # type: ignore[arg-type]

    return _fetch


def test_days_of_tardis_arrive(server: Server, tardis: Callable[..., list[Fetched]], tmp_path: Path) -> None:
    tape = gzip.compress(b"exchange,symbol\n")
    for day in ("01", "02", "03"):
        server.add(TARDIS.replace("/01/", f"/{day}/"), tape)
    fetched = tardis(end="2024-08-04")
    names = [f"binance-futures_trades_2024-08-0{day}_BTCUSDT.csv.gz" for day in (1, 2, 3)]
    assert [file.path for file in fetched] == [tmp_path / name for name in names]
    assert [file.status for file in fetched] == ["fetched"] * 3
    assert all(file.path.read_bytes() == tape for file in fetched)
    assert [file.status for file in tardis(end="2024-08-04")] == ["present"] * 3


def test_what_tardis_says_is_handed_on(server: Server, tardis: Callable[..., list[Fetched]], tmp_path: Path) -> None:
    server.add(TARDIS, b"", "401")
    with pytest.raises(FileError, match="Tardis: busy"):
        tardis()
    with pytest.raises(FileError, match="Tardis: not here"):
        tardis(symbols="NOSUCH")
    assert list(tmp_path.glob("*.gz")) == []


def test_a_tardis_file_that_is_no_gzip_is_not_kept(
    server: Server, tardis: Callable[..., list[Fetched]], tmp_path: Path
) -> None:
    server.add(TARDIS, gzip.compress(TAPE)[:-5])
    with pytest.raises(FileError, match="not a whole gzip file"):
        tardis()
    assert list(tmp_path.glob("*.gz")) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exchange": "../x"}, "not an exchange"),
        ({"data_types": "book_snapshot_1"}, "no tape"),
        ({"data_types": []}, "no tape"),
        ({"symbols": ""}, "no symbol"),
        ({"connections": 0}, "connections"),
        ({"base_url": "ftp://x"}, "not an address"),
    ],
)
def test_what_tardis_cannot_have_is_refused(
    tardis: Callable[..., list[Fetched]], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        tardis(**changes)
