"""Raw recordings: several kinds in one file, REST snapshots in step with the stream, prints that are no market."""

from __future__ import annotations

import bisect
import gzip
import itertools
import json
import re

import numpy as np
import polars as pl
import pytest

from toxmid.errors import DataError, FileError
from toxmid.readers import TapeWarning, open_tape, read_book, read_trades
from toxmid.readers import files as files_module
from toxmid.readers import recording as recording_module
from toxmid.replay import replay

CM, USDM = "cm_btcusd_perp_20240808.gz", "usdm_btcusdt_20230405.gz"


def lines(path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)


def test_each_reader_gets_its_kind(samples):
    kinds = ("trades", "book", "quotes", "liquidations", "mark")
    used = {kind: open_tape(samples / "recording" / CM, kind) for kind in kinds}
    for tape in used.values():
        tape.frame()
    assert {kind: tape.counts["rows_used"] for kind, tape in used.items()} == {
        "trades": 1,
        "book": 4,
        "quotes": 1,
        "liquidations": 0,
        "mark": 0,
    }
    assert all(sum(tape.counts.values()) == 2 * 7 for tape in used.values())


def test_snapshot_is_brought_up_to_date_and_late_updates_are_dropped(samples):
    tape = open_tape(samples / "recording" / CM, "book")
    frame = tape.frame()
    assert tape.counts == {"rows_read": 7, "rows_used": 4, "other_kinds": 2, "late_updates": 1}
    snapshot = frame.filter("snapshot")
    contracts = (snapshot["size"] * snapshot["price"] / 100).round(9)
    # The best ask has the 9 of update 107, not the 1 of the snapshot; the bid that 107 deleted is gone.
    assert list(zip(snapshot["side"], snapshot["price"], contracts, strict=True)) == [
        (1, 50000.0, 5.0),
        (-1, 50000.1, 9.0),
        (-1, 50000.2, 20.0),
    ]
    assert snapshot["ts"].to_physical().unique().to_list() == [1723161256192216566]
    assert frame["price"].to_list()[-1] == 50000.0
    assert frame["size"].to_list()[-1] == 0.0


def test_the_same_in_blocks_of_one_line(samples, monkeypatch):
    whole = read_book(samples / "recording" / CM)
    monkeypatch.setattr(
        recording_module, "blocks", lambda path, **kwargs: files_module.blocks(path, size=400, **kwargs)
    )
    assert read_book(samples / "recording" / CM).equals(whole)


def test_nanoseconds_to_the_last_digit(samples):
    row = read_trades(samples / "recording" / CM).row(0, named=True)
    assert (row["side"], row["lots"], row["id"]) == (1, 4, "849714402")
    frame = read_trades(samples / "recording" / CM)
    assert frame["ts"].to_physical().to_list() == [1723161256419684465]
    assert frame["ts_event"].to_physical().to_list() == [1723161257679 * 10**6]


def test_files_of_2023_are_in_microseconds_and_hold_prints_of_the_insurance_fund(samples):
    tape = open_tape(samples / "recording" / USDM, "trades")
    frame = tape.frame()
    assert frame["ts"].to_physical().to_list() == [1680652873999999000, 1680652874300000000]
    assert frame["price"].max() < 28_200
    assert frame["side"].to_list() == [-1, 1]
    assert tape.counts == {"rows_read": 5, "rows_used": 2, "other_kinds": 2, "not_market_trades": 1}


def test_mark_and_liquidations(samples):
    assert open_tape(samples / "recording" / USDM, "mark").frame()["price"].to_list() == [28151.2]
    frame = open_tape(samples / "recording" / USDM, "liquidations").frame()
    assert frame.select("side", "price", "size").rows() == [(-1, 28150.0, 0.5)]
    assert frame["ts_event"].to_physical().to_list() == [1680652874190 * 10**6]


LOCAL = 1723161254 * 10**9


def single(at: int, number: int, **more) -> str:
    """A trade, as many milliseconds after the first moment."""
    fields = {"e": "trade", "E": 1723161254000 + at, "T": 1723161254000 + at, "s": "BTCUSDT", "t": number}
    return recorded("btcusdt@trade", at, fields | {"p": "100.5", "q": "0.25", "X": "MARKET", "m": True} | more)


def aggregated(at: int, number: int, **more) -> str:
    fields = {"e": "aggTrade", "E": 1723161254009 + at, "T": 1723161254000 + at, "s": "BTCUSDT", "a": number}
    return recorded("btcusdt@aggTrade", at, fields | {"p": "100.5", "q": "0.5", "f": 1, "l": 2, "m": True} | more)


def recorded(stream: str, at: int, data: dict) -> str:
    message = json.dumps({"stream": stream, "data": data}, separators=(",", ":"))
    return f"{LOCAL + at * 10**6} {message}\n"


def read_counts(path, **options):
    tape = open_tape(path, "trades", **options)
    return tape.frame()["id"].to_list(), tape.counts


def test_aggregated_trades_are_trades_where_there_are_no_others(write):
    tape = open_tape(write("a", aggregated(5, 71) + aggregated(6, 72, m=False, p="101") + aggregated(7, 72)), "trades")
    frame = tape.frame()
    assert frame.select("price", "size", "side", "id").rows() == [(100.5, 0.5, -1, "71"), (101.0, 0.5, 1, "72")]
    assert frame["ts_event"].to_physical().to_list() == [LOCAL + 5 * 10**6, LOCAL + 6 * 10**6]  # T, not E
    assert tape.counts == {"rows_read": 3, "rows_used": 2, "duplicates": 1}
    assert tape.instrument.venue == "binance-futures"


def test_single_trades_go_before_aggregated_ones_wherever_they_stand(write):
    both = [single(1, 1) + single(1, 2) + aggregated(2, 71), aggregated(1, 71) + single(2, 1) + single(2, 2)]
    for text in both:
        assert read_counts(write("a", text)) == (
            ["1", "2"],
            {"rows_read": 3, "rows_used": 2, "aggregated_trades": 1},
        )
    assert read_counts(write("a", single(1, 1))) == (["1"], {"rows_read": 1, "rows_used": 1})


def test_single_trades_that_begin_late_are_left_out_and_said(write, monkeypatch):
    monkeypatch.setattr(recording_module, "_SURELY", 3)
    path = write("a", "".join(aggregated(i, i) for i in range(3)) + single(4, 1) + aggregated(5, 4) + single(6, 2))
    with pytest.warns(TapeWarning, match="single trades begin after 3 aggregated ones"):
        assert read_counts(path) == (
            ["0", "1", "2", "4"],
            {"rows_read": 6, "rows_used": 4, "trades_beside_aggregated": 2},
        )
    early = write("b", "".join(aggregated(i, i) for i in range(2)) + single(2, 1) + aggregated(3, 2))
    assert read_counts(early) == (["1"], {"rows_read": 4, "rows_used": 1, "aggregated_trades": 3})


@pytest.mark.parametrize("size", [600, 1100, 10_000])
def test_which_trades_are_read_does_not_depend_on_how_a_file_is_cut(write, monkeypatch, size):
    depth = recorded("btcusdt@depth@0ms", 0, {"s": "BTCUSDT", "u": 2, "pu": 1, "b": [["1", "2"]] * 20, "a": []})
    text = depth + aggregated(1, 71) + depth * 5 + single(3, 1) + aggregated(4, 72) + depth
    monkeypatch.setattr(
        recording_module, "blocks", lambda path, **kwargs: files_module.blocks(path, size=size, **kwargs)
    )
    monkeypatch.setattr(files_module, "_PIECE", 50)
    assert read_counts(write("a", text)) == (
        ["1"],
        {"rows_read": 10, "rows_used": 1, "other_kinds": 7, "aggregated_trades": 2},
    )


def test_a_cut_recording_of_aggregated_trades_is_told_once(write):
    path = write("a", aggregated(1, 71) + aggregated(2, 72)[:-9])
    with pytest.raises(FileError, match="may be cut"):
        read_trades(path)
    with pytest.warns(TapeWarning) as told:
        assert read_counts(path, allow_partial=True)[1]["partial_last_line"] == 1
    assert len(told) == 1


def test_aggregated_contracts_are_contracts(write):
    text = aggregated(1, 71, s="BTCUSD_PERP", q="2").replace("btcusdt", "btcusd_perp")
    tape = open_tape(write("a", text), "trades")
    assert tape.frame().select("size", "lots").rows() == [(2 * 100 / 100.5, 2)]
    spot = write("b", aggregated(1, 71, M=True))
    assert open_tape(spot, "trades").instrument.venue == "binance"


def test_quote_without_exchange_time_takes_arrival(write):
    message = {"stream": "btcusdt@bookTicker", "data": {"u": 1, "s": "BTCUSDT", "b": "1", "B": "2", "a": "3", "A": "4"}}
    tape = open_tape(write("spot.gz", f"1723161254087891268 {json.dumps(message, separators=(',', ':'))}\n"), "quotes")
    frame = tape.frame()
    assert frame["ts_event"].equals(frame["ts"].alias("ts_event"))
    assert tape.instrument.venue == "binance"


def test_empty_message_is_counted(write, samples):
    empty = lines(samples / "recording" / CM)[0].replace('[["50000.0","7"]]', "[]")
    tape = open_tape(write("a", empty), "book")
    assert tape.frame().height == 0
    assert tape.counts == {"rows_read": 1, "rows_used": 0, "empty_messages": 1}


@pytest.mark.parametrize("damage", [lambda text: text[:-20] + "\n", lambda text: text.replace('"b":[[', '"b":[[[')])
def test_broken_json_is_located(write, samples, damage):
    good = lines(samples / "recording" / CM)
    with pytest.raises(DataError) as caught:
        read_book(write("a", good[0] + damage(good[1]) + good[2]))
    assert caught.value.row in (1, 2)


def test_broken_json_is_located_to_the_row(write, samples):
    good = lines(samples / "recording" / CM)
    with pytest.raises(DataError, match="broken JSON") as caught:
        read_book(write("a", good[0] + good[1][:-5] + "\n" + good[2]))
    assert caught.value.row == 2


@pytest.mark.parametrize("line", ["\n", "no time {}\n", "1723161256172216566\n"])
def test_a_line_that_is_no_message(write, samples, line):
    good = lines(samples / "recording" / CM)
    with pytest.raises(DataError, match="not a recorded message") as caught:
        read_trades(write("a", good[0] + line + good[1]))
    assert caught.value.row == 2


def test_cut_recording(write, samples):
    good = "".join(lines(samples / "recording" / CM))
    with pytest.raises(FileError, match="may be cut"):
        read_trades(write("a", good[:-10]))


def test_unreadable_size_becomes_nan(write, samples):
    row = next(line for line in lines(samples / "recording" / USDM) if '"t":1' in line).replace('"0.010"', '"x"')
    assert np.isnan(read_trades(write("a", row))["size"][0])


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("cm_btcusd_perp_20240808.gz", {"trades": 2286, "book": 26_848, "quotes": 19_136}),
        ("cm_btcusd_perp_20240809.gz", {"trades": 2949, "book": 17_948, "quotes": 29_219}),
        ("spot_btcusdt_20240808.gz", {"trades": 9757, "book": 3452, "quotes": 28_040}),
        ("usdm_btcusdt_20240808.gz", {"trades": 21_313, "book": 6552, "quotes": 66_089}),
    ],
)
def test_real_recordings(shared_data, name, counts):
    for kind, used in counts.items():
        tape = open_tape(shared_data / "hftbacktest-raw" / name, kind)
        frame = tape.frame()
        assert tape.counts["rows_used"] == used
        assert sum(tape.counts.values()) == 2 * tape.counts["rows_read"]
        assert frame["ts"].is_sorted()
        assert tape.instrument.inverse == name.startswith("cm")


def best_by_update(path) -> dict[int, tuple[float, float]]:
    """For each depth message, by local time, the best quotes of the last bookTicker that is not newer."""
    ticks: dict[int, tuple[float, float]] = {}
    depth: dict[int, int] = {}
    for line in lines(path):
        local, text = line.split(" ", 1)
        if "@bookTicker" in text[:40]:
            data = json.loads(text)["data"]
            ticks[data["u"]] = (float(data["b"]), float(data["a"]))
        elif "@depth" in text[:40]:
            depth[int(local)] = int(re.search(r'"u":(\d+)', text)[1])
    updates = sorted(ticks)
    nearest = {local: bisect.bisect_right(updates, update) - 1 for local, update in depth.items()}
    return {local: ticks[updates[index]] for local, index in nearest.items() if index >= 0}


def replayed(frame: pl.DataFrame):
    """Best quotes of a plain book after each message, from the first snapshot on."""
    book: dict[int, dict[float, float]] = {1: {}, -1: {}}
    seeded = False
    for (ts,), message in frame.with_columns(pl.col("ts").to_physical()).group_by("ts", maintain_order=True):
        if message["snapshot"][0]:
            book, seeded = {1: {}, -1: {}}, True
        for side, price, size in message.select("side", "price", "size").iter_rows():
            book[side][price] = size
        if seeded:
            yield ts, *(best(p for p, size in book[side].items() if size > 0) for side, best in ((1, max), (-1, min)))


@pytest.mark.parametrize("name", ["cm_btcusd_perp_20240808.gz", "usdm_btcusdt_20240808.gz", "spot_btcusdt_20240808.gz"])
def test_real_book_agrees_with_the_best_quotes_of_the_venue(shared_data, name):
    path = shared_data / "hftbacktest-raw" / name
    best = best_by_update(path)
    checked = 0
    for ts, bid, ask in itertools.islice(replayed(read_book(path).head(20_000)), 1, 150):
        assert (bid, ask) == best[ts]
        checked += 1
    assert checked > 100


@pytest.mark.parametrize("word", ["null", "0x10.1", "-3", ""])
def test_a_level_of_a_snapshot_that_is_no_number_is_counted_by_the_core(samples, write, word):
    """The third line is a snapshot; updates that came before it are put into it."""
    lines = gzip.decompress((samples / "recording" / CM).read_bytes()).decode().splitlines(keepends=True)
    lines[2] = lines[2].replace('["50000.2","20"]', f'["50000.2","{word}"]')
    result = replay(book=write(CM, gzip.compress("".join(lines).encode())))
    assert {name: n for name, n in result.counts["by_input"]["book"]["events_rejected"].items() if n} == {
        "bad_size": 1,
        "before_snapshot": 3,
    }


def test_books_of_a_few_levels_are_no_updates(samples, write):
    """They say which levels there are and not which have gone: as updates they would leave old ones standing."""
    lines = gzip.decompress((samples / "recording" / CM).read_bytes()).decode().splitlines(keepends=True)
    update = next(line for line in lines if "@depth@" in line)
    few = update.replace("@depth@0ms", "@depth20@100ms")
    assert few != update
    tape = open_tape(write(CM, gzip.compress("".join([*lines, few]).encode())), "book")
    before = open_tape(samples / "recording" / CM, "book")
    assert tape.frame().equals(before.frame())
    assert tape.counts["other_kinds"] == before.counts["other_kinds"] + 1


TRADE = (
    '1723161256419684465 {"stream":"btcusdt@trade","data":{"e":"trade","T":1723161257687,"s":"BTCUSDT","t":%s,'
    '"p":"100","q":"1","m":true}}\n'
)


def test_where_nobody_says_who_was_the_maker_nobody_knows_who_bought(write):
    lines = [TRADE % 1, (TRADE % 2).replace(',"m":true', ""), (TRADE % 3).replace("true", "false")]
    assert read_trades(write("a", "".join(lines)))["side"].to_list() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((TRADE % 5).replace("1723161257687", '"soon"'), "a message cannot be read"),
        ((TRADE % 5).replace("true", '"true"'), "a message cannot be read"),
        (TRADE.partition("{")[0] + '{"stream":"btcusdt@trade","data":' + "[" * 5000 + "\n", "nested without end"),
    ],
)
def test_a_message_of_other_types_is_found(write, bad, message):
    lines = [TRADE % number for number in range(9)]
    lines[6] = bad
    with pytest.raises(DataError, match=message) as caught:
        read_trades(write("a", "".join(lines)))
    assert caught.value.row == 7
