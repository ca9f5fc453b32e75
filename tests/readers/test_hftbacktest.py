"""Event arrays of hftbacktest: the local clock's events, clears as deletes, and damaged arrays."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from toxmid.errors import DataError, FileError
from toxmid.readers import hftbacktest as module
from toxmid.readers import open_tape, read_book, read_trades

BOTH, BUY, SELL = (1 << 30) | (1 << 31), 1 << 29, 1 << 28
DEPTH, TRADE, CLEAR, SNAPSHOT = 1, 2, 3, 4
DTYPE = np.dtype([("ev", "u8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f8"), ("qty", "f8")])
T0 = 1_700_000_000_000_000_000


def events(*rows) -> np.ndarray:
    return np.array([(BOTH | ev, T0 + i, T0 + i + 5, px, qty) for i, (ev, px, qty) in enumerate(rows)], DTYPE)


@pytest.fixture
def save(tmp_path):
    def _save(array: np.ndarray, name: str = "a.npz"):
        path = tmp_path / name
        np.save(path, array) if name.endswith(".npy") else np.savez_compressed(path, data=array)
        return path

    return _save


def standing(path) -> dict[tuple[int, float], float]:
    book: dict[tuple[int, float], float] = {}
    for side, price, size in read_book(path).select("side", "price", "size").iter_rows():
        book[side, price] = size
    return {place: size for place, size in book.items() if size > 0}


def test_sample(samples):
    trades = open_tape(samples / "hftbacktest" / "events.npz", "trades")
    assert trades.frame().select("price", "size", "side").rows() == [(100.0, 2.0, -1)]
    assert trades.counts == {"rows_read": 8, "rows_used": 1, "exchange_only": 1, "other_kinds": 6}
    book = open_tape(samples / "hftbacktest" / "events.npz", "book")
    frame = book.frame()
    assert frame["snapshot"].to_list() == [True] * 3 + [False] * 4
    assert standing(samples / "hftbacktest" / "events.npz") == {(1, 98.0): 6.0, (-1, 101.0): 7.0, (1, 97.0): 4.0}
    assert book.counts == {"rows_read": 8, "rows_used": 6, "exchange_only": 1, "other_kinds": 1}
    assert frame["ts"].to_physical()[0] - frame["ts_event"].to_physical()[0] == 5


BOOK = [
    (BUY | SNAPSHOT, 99.0, 1.0),
    (BUY | SNAPSHOT, 98.0, 2.0),
    (SELL | SNAPSHOT, 101.0, 3.0),
    (SELL | SNAPSHOT, 102.0, 4.0),
]


@pytest.mark.parametrize(
    ("clear", "left"),
    [
        ((BUY | CLEAR, 0.0, 0.0), {(-1, 101.0), (-1, 102.0)}),
        ((BUY | CLEAR, np.nan, 0.0), {(-1, 101.0), (-1, 102.0)}),
        ((SELL | CLEAR, 101.0, 0.0), {(1, 99.0), (1, 98.0), (-1, 102.0)}),
        ((BUY | CLEAR, 98.0, 0.0), {(-1, 101.0), (-1, 102.0)}),
        ((CLEAR, 0.0, 0.0), set()),
    ],
)
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_clears(save, monkeypatch, clear, left, rows):
    monkeypatch.setattr(module, "_ROWS", rows)
    assert set(standing(save(events(*BOOK, clear)))) == left


def test_both_containers(save):
    array = events((BUY | TRADE, 100.0, 1.0), (TRADE, 101.0, 1.0))
    assert read_trades(save(array))["side"].to_list() == read_trades(save(array, "a.npy"))["side"].to_list() == [1, 0]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_cut_array(save, write, name, share):
    rng = np.random.default_rng(1)
    array = events(*((BUY | TRADE, price, 1.0) for price in rng.normal(100, 1, 2000)))
    data = save(array, name).read_bytes()
    with pytest.raises(FileError, match=r"cut|middle|corrupt"):
        read_trades(write(f"b{name}", data[: int(len(data) * share)]))


def test_flipped_bit(save, write):
    rng = np.random.default_rng(1)
    array = events(*((BUY | TRADE, price, 1.0) for price in rng.normal(100, 1, 2000)))
    path = save(array)
    with zipfile.ZipFile(path) as archive:
        start = archive.infolist()[0].header_offset + 200
    data = bytearray(path.read_bytes())
    data[start + 5000] ^= 1
    with pytest.raises((FileError, DataError)):
        read_trades(write("b.npz", bytes(data)))


def test_something_after_the_array(save, write):
    data = save(events((BUY | TRADE, 100.0, 1.0)), "a.npy").read_bytes()
    with pytest.raises(FileError, match="something else after"):
        read_trades(write("b.npy", data + b"x"))


def test_other_arrays(save, write):
    with pytest.raises(DataError, match="no field ev, exch_ts, local_ts, px, qty"):
        read_trades(save(np.zeros(3)))
    with pytest.raises(DataError, match="one dimension"):
        read_trades(save(np.zeros((2, 2), DTYPE)))
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not an array of events"):
        read_trades(write("b.npy", buffer.getvalue()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"'descr'", b"'descr "),
        (b"{'descr'", b"{('escr'"),
        (b"}", b"("),
        (b"False", b"Fal e"),
        (b"'ev'", b"[ev "),
        (b"'<u8'", b"'<q8'"),
        (b"'<u8'", b"<u8\"\"\""),
        (b"'<u8'", b"\x00\xff<u8"),
        (b"(1,)", b"(1,'"),
        (b"(1,)", b"(-1)"),
        (b"(1,)", b"'1,'"),
        (b"'descr'", b"'decsr'"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_damaged_headers(save, write, old, new):
    data = save(events((BUY | TRADE, 100.0, 1.0)), "a.npy").read_bytes()
    assert old in data
    with pytest.raises((FileError, DataError)) as caught:
        read_trades(write("b.npy", data.replace(old, new, 1)))
    assert caught.value.file.endswith("b.npy")


@pytest.mark.parametrize(
    ("field", "type"),
    [("ev", "f8"), ("local_ts", "f8"), ("exch_ts", "U20"), ("px", "U8"), ("px", "c16"), ("qty", "2f8"), ("qty", "?")],
)
def test_fields_that_are_no_numbers(save, field, type):
    rows = np.zeros(2, [(name, type if name == field else DTYPE[name]) for name in DTYPE.names])
    with pytest.raises(DataError, match="not an array of events") as caught:
        read_trades(save(rows))
    assert caught.value.column == field


def test_python_objects(write):
    rows = np.zeros(2, [*((name, DTYPE[name]) for name in DTYPE.names), ("note", "O")])
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        read_trades(write("b.npy", buffer.getvalue()))


def test_the_other_order_of_bytes(save):
    rows = events((BUY | TRADE, 100.0, 1.0), (SELL | TRADE, 99.0, 2.0))
    assert read_trades(save(rows.astype(DTYPE.newbyteorder(">")))).equals(read_trades(save(rows, "b.npz")))


def test_time_of_another_unit(save):
    array = events((BUY | TRADE, 100.0, 1.0))
    array["local_ts"] //= 1000
    with pytest.raises(DataError, match="looks like microseconds"):
        read_trades(save(array))


def test_prices_in_single_precision(save):
    book = (SNAPSHOT | BUY, 99.0, 5.0), (DEPTH | BUY, 99.5, 2.0), (CLEAR | BUY, 0.0, 0.0)
    rows = events(*book, (TRADE | SELL, 99.5, 1.0))
    single = rows.astype([("ev", "u8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f4"), ("qty", "f4")])
    assert read_book(save(single)).equals(read_book(save(rows, "b.npz")))
    assert read_trades(save(single)).equals(read_trades(save(rows, "b.npz")))
