"""Databento: sides of aggressors, empty sides of a quote, and a book put together order by order."""

from __future__ import annotations

import gzip
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxmid.errors import FileError
from toxmid.readers import open_tape, read_book, read_quotes, read_trades, recognise
from toxmid.readers.databento import _Orders
from toxmid.readers.files import read_head

RECV = 1_703_545_200_000_000_000


def test_trades(samples):
    tape = open_tape(samples / "databento" / "trades.csv.gz", "trades")
    frame = tape.frame()
    assert frame.select("price", "size", "side").rows() == [(4800.25, 5.0, -1), (4800.5, 2.0, 1), (4800.5, 1.0, 0)]
    assert frame["ts"].to_physical()[0] == RECV + 2
    assert frame["ts_event"].to_physical()[0] == RECV + 1
    assert tape.instrument.symbol == "ESH4"


def test_binary_encoding_gives_what_its_csv_gives(samples):
    pytest.importorskip("databento_dbn")
    binary, text = (samples / "databento" / name for name in ("trades.dbn", "trades.csv.gz"))
    assert read_trades(binary).equals(read_trades(text))
    assert open_tape(binary, "trades").instrument.symbol == "ESH4"


def test_a_record_shorter_than_its_kind_is_an_error_of_the_file(samples, write):
    """The library that reads them panics, which is no `Exception`."""
    pytest.importorskip("databento_dbn")
    data = bytearray((samples / "databento" / "trades.dbn").read_bytes())
    first = 8 + int.from_bytes(data[4:8], "little")  # after the mark, the version and the metadata
    assert data[first] == 48 // 4
    data[first] = 40 // 4
    with pytest.raises(FileError, match=r"corrupt DBN data: Malformed.*40 bytes"):
        read_trades(write("a.dbn", bytes(data)))


def test_quotes_that_stood_before_each_trade(samples):
    path = samples / "databento" / "tbbo.csv.gz"
    assert read_trades(path).select("price", "size", "side").rows() == [(4800.25, 5.0, -1), (4800.5, 2.0, 1)]
    assert read_quotes(path).select("bid", "bid_size").rows() == [(4800.25, 24.0), (4800.25, 19.0)]


def test_ten_levels(samples):
    tape = open_tape(samples / "databento" / "mbp-10.csv.gz", "book")
    frame = tape.frame().with_columns(pl.col("ts").to_physical())  # a datetime of Python has no nanoseconds
    first = frame.filter(frame["ts"] == frame["ts"][0])
    assert (first.height, first["snapshot"].all()) == (20, True)
    assert sorted(first.filter(pl.col("side") == 1)["price"])[0] == 4798.0
    gone = frame.filter(frame["ts"] == frame["ts"][-1])
    assert gone.select("side", "size", "snapshot").unique().rows() == [(1, 0.0, False)]
    assert sorted(gone["price"]) == [4798.0 + 0.25 * n for n in range(7)]


def test_quotes_and_trades_of_one_file(samples):
    path = samples / "databento" / "mbp-1.csv.gz"
    quotes = read_quotes(path)
    assert quotes.select("bid", "bid_size", "ask", "ask_size").row(0) == (4800.25, 24.0, 4800.5, 11.0)
    assert np.isnan(quotes["ask"][1])
    assert read_trades(path).select("price", "size", "side").rows() == [(4800.5, 2.0, 1)]


def test_book_of_orders(samples):
    tape = open_tape(samples / "databento" / "mbo.csv.gz", "book")
    assert tape.frame().select("side", "price", "size", "snapshot").rows() == [
        (1, 4800.0, 3.0, True),
        (1, 4800.0, 7.0, True),
        (-1, 4800.25, 6.0, True),
        (-1, 4800.25, 4.0, False),
        (1, 4800.0, 4.0, False),
        (1, 4799.75, 5.0, False),
    ]
    assert tape.counts == {"rows_read": 9, "rows_used": 5, "unknown_orders": 1, "other_kinds": 3}
    assert read_trades(samples / "databento" / "mbo.csv.gz").select("price", "size", "side").rows() == [
        (4800.25, 2.0, 1)
    ]


def test_book_is_followed_before_the_window(samples):
    frame = read_book(samples / "databento" / "mbo.csv.gz", start=RECV + 20)
    assert frame.select("price", "size").rows() == [(4800.0, 4.0), (4799.75, 5.0)]


def test_a_record_without_its_figures_is_counted(samples, write):
    """And the order that it speaks of stays as it was."""
    header, *rows = gzip.decompress((samples / "databento" / "mbo.csv.gz").read_bytes()).decode().splitlines()
    names = header.split(",")
    added = next(row.split(",") for row in rows if row.split(",")[names.index("action")] == "A")
    broken = []
    for name, words in {"size": ("", "nan", "inf"), "price": ("", "nan"), "side": ("",)}.items():
        for word in words:
            broken.append(",".join([*added[: names.index(name)], word, *added[names.index(name) + 1 :]]))
    text = "\n".join([header, ",".join(added), *broken]) + "\n"
    tape = open_tape(write("mbo.csv", text), "book")
    assert tape.frame().height == 1
    assert tape.counts == {"rows_read": 7, "rows_used": 1, "unknown_orders": 6}


RECORDS = st.lists(
    st.tuples(
        st.sampled_from("AAACMRTF"), st.sampled_from("BA"), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(RECORDS, st.integers(1, 40))
def test_levels_are_the_sums_of_their_orders(records, cut):
    """Against the plainest book there is: a dictionary of orders, summed after every record."""
    frame = pl.DataFrame(
        [
            (row, 0, "1", order, action, side, float(price), float(size))
            for row, (action, side, price, size, order) in enumerate(records)
        ],
        schema={
            "row": pl.UInt32,
            "flags": pl.Int64,
            "instrument_id": pl.String,
            "order_id": pl.Int64,
            "action": pl.Enum(["A", "C", "M", "R", "T", "F", "N"]),
            "side": pl.Enum(["A", "B", "N"]),
            "price": pl.Float64,
            "size": pl.Float64,
        },
        orient="row",
    )
    orders = _Orders()
    changes = pl.concat([orders.follow(frame[start : start + cut]) for start in range(0, frame.height or 1, cut)])
    plain: dict[int, tuple[str, int, float]] = {}
    levels: dict[tuple[int, float], float] = {}
    for (action, side, price, size, order), row in zip(records, changes.iter_rows(named=True), strict=True):
        if action == "R":
            plain = {}
        elif action in "AM":
            plain[order] = (side, price, size)
        elif action == "C" and order in plain:
            old_side, old_price, old_size = plain.pop(order)
            if old_size > size:
                plain[order] = (old_side, old_price, old_size - size)
        for change in row["changes"] or []:
            if change["snapshot"]:
                levels = {}
            levels[change["side"], change["price"]] = change["size"]
        expected: dict[tuple[int, float], float] = defaultdict(float)
        for old_side, old_price, old_size in plain.values():
            expected[1 if old_side == "B" else -1, old_price] += old_size
        assert {place: size for place, size in levels.items() if size > 0} == expected


def test_binary_without_its_package(shared_data, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "databento_dbn", None)
    with pytest.raises(FileError, match=r"databento-dbn.*toxmid\[databento\]"):
        read_trades(shared_data / "databento" / "test_data.trades.v3.dbn.zst")


class TestBinary:
    """Files of the vendor, read by its own package."""

    @pytest.fixture(autouse=True)
    def _package(self):
        pytest.importorskip("databento_dbn", reason="DBN files are read by the optional package databento-dbn")

    @pytest.mark.parametrize(
        ("name", "kind", "used"),
        [
            ("test_data.trades.v3", "trades", 2),
            ("test_data.tbbo.v3", "trades", 2),
            ("test_data.mbp-1.v3", "quotes", 2),
            ("test_data.mbp-10.v3", "book", 2),
            ("futures_mbp-1_2024-07-01T23-58_2024-07-02T00-02", "quotes", 2288),
            ("futures_mbp-1_2024-07-01T23-58_2024-07-02T00-02", "trades", 120),
            ("esh4-glbx-mdp3-20231225.mbo", "trades", 2973),
            ("esh4-glbx-mdp3-20231224.mbo", "book", 8725),
        ],
    )
    def test_real_files(self, shared_data, name, kind, used):
        tape = open_tape(shared_data / "databento" / f"{name}.dbn.zst", kind)
        frame = tape.frame()
        assert tape.counts["rows_used"] == used
        assert sum(tape.counts.values()) == 2 * tape.counts["rows_read"]
        assert frame["ts"].is_sorted()
        prices = [name for name in ("price", "bid", "ask") if name in frame.columns]
        assert (frame.select(pl.col(prices) * 4 % 1).to_numpy() == 0).all()  # quarters of a point

    def test_real_book_crosses_only_before_the_opening(self, shared_data):
        frame = read_book(shared_data / "databento" / "esh4-glbx-mdp3-20231225.mbo.dbn.zst", end="2023-12-25T23:00:30")
        opening = RECV + 10**9
        book: dict[int, dict[float, float]] = {1: {}, -1: {}}
        for (ts,), message in frame.with_columns(pl.col("ts").to_physical()).group_by("ts", maintain_order=True):
            for side, price, size in message.select("side", "price", "size").iter_rows():
                if size:
                    book[side][price] = size
                else:
                    book[side].pop(price, None)
            if ts > opening:
                assert max(book[1]) < min(book[-1])

    def test_cut_file(self, shared_data, write):
        data = (shared_data / "databento" / "esh4-glbx-mdp3-20231224.mbo.dbn.zst").read_bytes()
        with pytest.raises(FileError, match="end in the middle"):
            read_book(write("a.dbn.zst", data[: len(data) // 2]))

    def test_cut_within_a_record(self, shared_data, write):
        import pyarrow as pa

        path = shared_data / "databento" / "test_data.trades.v3.dbn.zst"
        with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, "zstd") as stream:
            raw = stream.read()
        assert read_trades(write("a.dbn", raw)).height == 2
        with pytest.raises(FileError, match="DBN data end in the middle"):
            read_trades(write("b.dbn", raw[:-10]))

    def test_plain_gzip_of_csv_needs_no_package(self, samples):
        assert gzip.decompress((samples / "databento" / "trades.csv.gz").read_bytes()).startswith(b"ts_recv")


@pytest.mark.parametrize("name", ["trades", "mbp-1", "tbbo", "mbp-10", "mbo"])
def test_prices_as_integers_are_what_they_are_as_decimals(samples, write, name):
    """The vendor's CSV has them so unless decimals are asked for: times 1e9, with 2^63 - 1 where there is none."""
    text = gzip.decompress((samples / "databento" / f"{name}.csv.gz").read_bytes()).decode()
    header, *rows = (line.split(",") for line in text.splitlines())
    places = [index for index, column in enumerate(header) if column == "price" or "_px_" in column]
    for row in rows:
        for index in places:
            row[index] = row[index].replace(".", "").lstrip("0") or str(2**63 - 1)
    path = write(f"{name}.csv", "".join(",".join(row) + "\n" for row in [header, *rows]))
    plain = samples / "databento" / f"{name}.csv.gz"
    for kind in recognise(read_head(plain))[0].tables:
        assert open_tape(path, kind).frame().equals(open_tape(plain, kind).frame()), kind


def test_round_prices_without_decimals_are_decimals(samples, write):
    text = gzip.decompress((samples / "databento" / "trades.csv.gz").read_bytes()).decode()
    for price in ("4800.250000000", "4800.500000000"):
        text = text.replace(price, "4800")
    assert read_trades(write("a.csv", text))["price"].to_list() == [4800.0] * 3


def test_a_time_that_is_undefined(samples, write):
    text = gzip.decompress((samples / "databento" / "trades.csv.gz").read_bytes()).decode()
    undefined = str(2**64 - 1)
    tape = open_tape(write("a.csv", text.replace(f"{RECV + 2},", f"{undefined},")), "trades")
    assert tape.frame()["price"].to_list() == [4800.5, 4800.5]
    assert tape.counts == {"rows_read": 3, "rows_used": 2, "no_time": 1}
    frame = read_trades(write("b.csv", text.replace(f",{RECV + 1},", f",{undefined},")))
    assert frame["ts_event"].to_physical()[0] == frame["ts"].to_physical()[0] == RECV + 2
