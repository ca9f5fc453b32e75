"""Parquet and Arrow files in, or near, the canonical form."""

from __future__ import annotations

import io

import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from toxmid.convert import convert
from toxmid.errors import DataError, FileError, TapeWarning
from toxmid.instrument import Instrument
from toxmid.readers import open_tape, read_book, read_liquidations, read_trades, recognise
from toxmid.readers import tables as tables_module
from toxmid.readers.files import read_head
from toxmid.schema import KINDS, TABLES, canonical, empty

NS = 1_760_054_400_000_000_000

WRITERS = {"parquet": pl.DataFrame.write_parquet, "arrow": pl.DataFrame.write_ipc}
WRITERS |= {"arrows": pl.DataFrame.write_ipc_stream}
FORMS = pytest.mark.parametrize("form", WRITERS)


def saved(frame: pl.DataFrame, path, form: str):
    path = path.with_suffix(f".{form}")
    WRITERS[form](frame, path)
    return path


@pytest.fixture
def tape() -> pl.DataFrame:
    return pl.DataFrame(
        {"ts": [NS + i for i in range(10)], "price": [1.5] * 10, "size": [2] * 10, "side": [1, -1] * 5, "id": range(10)}
    )


@FORMS
def test_samples(samples, form):
    frame = read_trades(samples / "canonical" / f"trades.{form}")
    assert frame["side"].to_list() == [1, 1, -1]
    assert frame["size"].to_list() == [2.0, 5.0, 125.0]


@FORMS
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_comes_back(tmp_path, form, kind):
    names = [field.name for field in TABLES[kind]]
    values = {"ts": NS, "ts_event": NS - 1, "side": 1, "snapshot": True, "id": "x", "lots": 7, "gap": True}
    values |= {"stale": True, "due": None, "symbol": "C", "option": -1, "expiry": NS + 1}
    frame = canonical(pl.DataFrame({name: [values.get(name, 1.5)] for name in names}), kind)
    read = open_tape(saved(frame, tmp_path / kind, form), kind)
    assert read.frame().equals(frame)
    assert read.counts == {"rows_read": 1, "rows_used": 1}


@FORMS
def test_pieces_and_window(tmp_path, monkeypatch, tape, form):
    monkeypatch.setattr(tables_module, "_ROWS", 3)
    path = saved(tape, tmp_path / "a", form)
    reader = open_tape(path, "trades", start=NS + 2, end=NS + 8)
    assert reader.frame()["id"].to_list() == [str(i) for i in range(2, 8)]
    assert reader.counts == {"rows_read": 10, "rows_used": 6, "outside_window": 4}


@FORMS
def test_duplicates(tmp_path, tape, form):
    reader = open_tape(saved(pl.concat([tape, tape]), tmp_path / "a", form), "trades")
    assert reader.frame().height == 10
    liquidations = tape.drop("id").with_columns(ts=NS)
    assert read_liquidations(saved(liquidations, tmp_path / "b", form)).height == 2


@FORMS
def test_a_liquidation_at_another_time_is_another_one(tmp_path, form):
    """Sides, prices and sizes that are round numbers come again and again."""
    times = [NS, NS + 1, NS + 1, NS + 1]
    rows = pl.DataFrame({"ts": times, "ts_event": [NS, NS, NS, NS + 1], "side": 1, "price": 1.5, "size": 2.0})
    path = saved(rows, tmp_path / "liquidations", form)
    assert read_liquidations(path)["ts"].to_physical().to_list() == [NS, NS + 1, NS + 1]
    reader = open_tape(path, "liquidations")
    assert [len(piece["ts"]) for piece in reader.columns()] == [3]
    assert reader.counts == {"rows_read": 4, "rows_used": 3, "duplicates": 1}


@FORMS
def test_liquidations_of_files_with_other_columns(tmp_path, form):
    rows = pl.DataFrame({"ts": [NS, NS], "ts_event": NS, "side": 1, "price": 1.5, "size": 2.0})
    paths = [
        saved(rows, tmp_path / "liquidations_a", form),
        saved(rows.drop("ts_event"), tmp_path / "liquidations_b", form),
    ]
    reader = open_tape(paths, "liquidations")
    assert (reader.frame().height, reader.counts["duplicates"]) == (2, 2)


@FORMS
def test_what_is_computed_from_needs_no_exchange_time(tmp_path, tape, form):
    """A replay does not look at it; whoever reads the table is told what is wrong with it."""
    path = saved(tape.with_columns(ts_event=1), tmp_path / "a", form)
    with pytest.raises(DataError, match="time is outside"):
        open_tape(path, "trades").frame()
    pieces = list(open_tape(saved(tape.with_columns(ts_event=NS), tmp_path / "b", form), "trades").columns())
    assert pieces[0]["price"].tolist() == [1.5] * 10
    assert ("ts_event" in pieces[0]) == (form != "parquet")


@FORMS
def test_without_ids_nothing_is_a_duplicate(tmp_path, tape, form):
    assert read_trades(saved(tape.drop("id").with_columns(ts=NS), tmp_path / "a", form)).height == 10


@FORMS
def test_missing_column(tmp_path, tape, form):
    path = saved(tape.rename({"size": "amount"}), tmp_path / "a", form)
    with pytest.raises(DataError, match="'amount' for 'size'") as caught:
        read_trades(path)
    assert caught.value.file == str(path)


@FORMS
def test_bad_row_is_located(tmp_path, monkeypatch, tape, form):
    monkeypatch.setattr(tables_module, "_ROWS", 3)
    bad = tape.with_columns(ts=pl.when(pl.col("ts") == NS + 7).then(5).otherwise("ts"))
    with pytest.raises(DataError, match="outside 2009") as caught:
        read_trades(saved(bad, tmp_path / "a", form))
    assert caught.value.row == 7


@FORMS
def test_cut_file(tmp_path, write, tape, form):
    data = saved(tape, tmp_path / "a", form).read_bytes()
    with pytest.raises(FileError, match="corrupt or cut"):
        read_trades(write(f"b.{form}", data[: len(data) // 2]))


def streamed(tape: pl.DataFrame, rows: int = 4) -> bytes:
    """A stream of batches of so many rows."""
    sink = io.BytesIO()
    table = tape.to_arrow()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


END_MARK = b"\xff\xff\xff\xff\0\0\0\0"


def test_a_stream_of_any_name(write, tape):
    read = open_tape(write("a_trades.arrow", streamed(tape)), "trades")
    assert read.frame()["id"].to_list() == [str(i) for i in range(10)]
    assert read.inputs[0]["format"] == "arrow"
    assert read_trades(write("b.arrow", streamed(tape)), format="arrow").height == 10


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_stream_of_packed_batches(tmp_path, tape, compression):
    tape.write_ipc_stream(tmp_path / "a.arrows", compression=compression)
    assert read_trades(tmp_path / "a.arrows")["id"].to_list() == [str(i) for i in range(10)]


def test_a_stream_is_read_batch_by_batch(write, tape, monkeypatch):
    path = write("a.arrows", streamed(tape))
    assert [frame.height for frame in open_tape(path, "trades").frames()] == [4, 4, 2]
    monkeypatch.setattr(tables_module, "_ROWS", 3)
    assert [frame.height for frame in open_tape(path, "trades").frames()] == [3, 1, 3, 1, 2]


def test_a_cut_stream_is_an_error_wherever_it_is_cut(write, tape):
    """Between two batches, too, where the library sees an end like any other."""
    data = streamed(tape)
    assert data.endswith(END_MARK)
    for end in range(8, len(data)):
        with pytest.raises(FileError, match=r"corrupt|cut"):
            read_trades(write("a.arrows", data[:end]))


def test_a_stream_without_end_mark_is_taken_where_that_is_allowed(write, tape):
    path = write("a.arrows", streamed(tape).removesuffix(END_MARK))
    with pytest.raises(FileError, match="no end mark and may be cut"):
        read_trades(path)
    with pytest.warns(TapeWarning, match="no end mark"):
        assert read_trades(path, allow_partial=True).height == 10
    cut = write("b.arrows", streamed(tape)[:-20])
    with pytest.raises(FileError, match="corrupt"):
        read_trades(cut, allow_partial=True)


@pytest.mark.parametrize("behind", [b"\0", END_MARK, b"x" * 100])
def test_what_follows_a_stream_is_an_error(write, tape, behind):
    with pytest.raises(FileError, match="something else after the end"):
        read_trades(write("a.arrows", streamed(tape) + behind))


def test_two_streams_in_one_file_are_an_error(write, tape):
    with pytest.raises(FileError, match="something else after the end"):
        read_trades(write("a.arrows", 2 * streamed(tape)))


@pytest.mark.parametrize("form", ["arrow", "arrows"])
def test_damaged_notes_on_a_column_do_no_harm(tmp_path, write, tape, form):
    """Polars notes the words of an enumeration beside the column, and ends in a panic where it cannot read them."""
    sides = tape.with_columns(side=pl.Series(["buy", "sell"] * 5, dtype=pl.Enum(["buy", "sell"])))
    data = saved(sides, tmp_path / "a_trades", form).read_bytes()
    assert data.count(b"3;buy4;sell")
    broken = write(f"b_trades.{form}", data.replace(b"3;buy4;sell", b"x;buy4;sell"))
    assert read_trades(broken)["side"].to_list() == [1, -1] * 5


def test_buffers_that_lie_about_each_other_are_an_error(tmp_path, write):
    """A file without checksums may point outside of itself; polars would follow."""
    word = "a word of many letters"
    words = pl.DataFrame({"ts": [NS] * 3, "price": [1.5] * 3, "size": [2.0] * 3, "side": [word] * 3})
    path = tmp_path / "a_trades.arrow"
    words.write_ipc(path, compat_level=pl.CompatLevel.newest())
    data = path.read_bytes()
    at = data.index(b"\x16\0\0\0a wo") + 8  # length, first letters, number of the buffer with the others
    for broken in (data[:at] + b"\x40" + data[at + 1 :], data[: at + 7] + b"\x40" + data[at + 8 :]):
        with pytest.raises(FileError, match="corrupt arrow file"):
            read_trades(write("b_trades.arrow", broken))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"instrument"', b'"instrumemt"'), (b'"kind": "trades"', b'"kind": "tradez"'), (b'{"format', b'["format')],
)
def test_what_a_file_says_of_itself_may_be_damaged(tmp_path, write, samples, old, new):
    source = samples / "tardis" / "coinbase_trades_2025-10-10_AVAX-USD.csv.gz"
    data = convert(source, tmp_path / "a_trades.parquet", "trades").path.read_bytes()
    with pytest.raises(FileError, match="corrupt parquet file"):
        read_trades(write("b_trades.parquet", data.replace(old, new)))


@FORMS
def test_a_symbol_that_is_a_number(tmp_path, tape, form):
    path = saved(tape.with_columns(symbol=pl.lit(1.5)), tmp_path / "a_trades", form)
    assert open_tape(path, "trades").instrument.symbol == "1.5"
    assert read_trades(path).height == 10


def test_names_that_are_no_text(tmp_path, write, tape):
    data = saved(tape, tmp_path / "a_trades", "parquet").read_bytes()
    with pytest.raises(FileError, match="corrupt"):
        read_trades(write("b_trades.parquet", data.replace(b"price", b"\xfe\xfeice")))


@FORMS
def test_several_symbols(tmp_path, tape, form):
    path = saved(tape.with_columns(symbol=pl.Series(["A", "B"] * 5)), tmp_path / "a", form)
    with pytest.raises(DataError, match="two instruments"):
        read_trades(path)
    assert read_trades(path, instrument=Instrument(symbol="B"))["id"].to_list() == ["1", "3", "5", "7", "9"]


@FORMS
def test_sizes_are_coin_and_an_inverse_market_gets_lots(tmp_path, tape, form):
    path = saved(tape, tmp_path / "a", form)
    frame = read_trades(path, instrument=Instrument(inverse=True, contract_value=1.0))
    assert frame["size"].to_list() == [2.0] * 10
    assert frame["lots"].to_list() == [3] * 10


@FORMS
@pytest.mark.parametrize("kind", KINDS)
def test_empty(tmp_path, form, kind):
    assert open_tape(saved(empty(kind), tmp_path / "a", form), kind).frame().height == 0


def test_kinds_from_columns_and_name(tmp_path):
    def kinds(kind, name):
        head = read_head(saved(empty(kind), tmp_path / name, "parquet"))
        return recognise(head)[0].kinds(head)

    assert kinds("quotes", "a") == ("quotes",)
    assert kinds("mark", "a") == ("mark",)
    assert kinds("index", "my_index") == ("index",)
    assert {kind: kinds(kind, "a") for kind in KINDS[6:]} == {kind: (kind,) for kind in KINDS[6:]}
    assert kinds("trades", "my_trades") == ("trades",)
    assert kinds("liquidations", "liquidations") == ("liquidations",)
    assert set(kinds("trades", "a")) == {"trades", "liquidations"}


@pytest.mark.parametrize("sort", [False, True])
def test_two_files_of_which_one_has_ids(tmp_path, tape, sort):
    paths = [saved(tape, tmp_path / "a", "parquet"), saved(tape.drop("id"), tmp_path / "b", "parquet")]
    frame = open_tape(paths, "trades", sort=sort).frame()
    assert frame.height == 20
    assert frame["id"].null_count() == 10


def test_book_of_a_frame(tmp_path):
    book = pl.DataFrame({"ts": [NS], "side": ["bid"], "price": [1.0], "size": [1.0], "snapshot": [1], "note": ["x"]})
    assert read_book(saved(book, tmp_path / "a", "parquet"))["snapshot"].to_list() == [True]


def test_types_that_polars_does_not_know(tape, tmp_path):
    table = tape.to_arrow()
    strange = table.set_column(0, "ts", table["ts"].cast(pa.timestamp("ns", "+05:30")))
    strange = strange.set_column(1, "price", table["price"].cast(pa.decimal128(20, 4)).cast(pa.decimal256(50, 4)))
    pq.write_table(strange, tmp_path / "x_trades.parquet")
    assert read_trades(tmp_path / "x_trades.parquet").equals(canonical(tape, "trades"))


def test_two_columns_of_one_name(tape, tmp_path):
    table = tape.to_arrow()
    pq.write_table(table.append_column("price", table["price"]), tmp_path / "x_trades.parquet")
    with pytest.raises(DataError, match="two columns have one name") as caught:
        read_trades(tmp_path / "x_trades.parquet")
    assert (caught.value.file, caught.value.column) == (str(tmp_path / "x_trades.parquet"), "price")
