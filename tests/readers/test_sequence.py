"""Numbers of updates: what is missing, what comes late, where a count begins anew."""

from __future__ import annotations

import gzip
import json
import zipfile
from io import BytesIO

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxmid.readers import open_tape
from toxmid.readers.sequence import UpdateNumbers

Update = tuple[int | None, int | None, int | None]  # number, follows, covers


def flags(updates: list[Update], cut: int | None = None) -> list[str]:
    """What is said of each update: "" (fits), "gap" or "late"; the updates in one piece or in two."""
    names = ("number", "follows", "covers")
    frame = pl.DataFrame(updates, schema=dict.fromkeys(names, pl.Int64), orient="row")
    sequence = UpdateNumbers()
    pieces = [frame] if cut is None else [frame[:cut], frame[cut:]]
    flagged = pl.concat([sequence.flagged(piece) for piece in pieces])
    return ["gap" if gap else "late" if late else "" for gap, late in flagged.select("gap", "late").iter_rows()]


CASES = {
    "nothing missing": ([(5, 4, None), (9, 5, None), (12, 9, None)], ["", "", ""]),
    "one missing": ([(5, 4, None), (9, 6, None), (12, 9, None)], ["", "gap", ""]),
    "many rows of one update": ([(5, 4, None)] * 3 + [(6, 5, None)] * 2, [""] * 5),
    "snapshot in the stream": ([(5, 4, None), (1, None, None), (2, 1, None)], ["", "", ""]),
    "snapshot from elsewhere, overlapped": ([(5, 4, None), (None, None, 8), (9, 5, None)], ["", "", ""]),
    "snapshot that covers what was lost": ([(5, 4, None), (None, None, 8), (12, 7, None)], ["", "", ""]),
    "snapshot too old for what was lost": ([(5, 4, None), (None, None, 8), (12, 10, None)], ["", "", "gap"]),
    "lost between snapshot and first update": ([(None, None, 8), (12, 10, None)], ["", "gap"]),
    "updates that a snapshot covers": (
        [(None, None, 8), (6, 5, None), (8, 6, None), (9, 8, None)],
        ["", "late", "late", ""],
    ),
    "an old update once more": ([(5, 4, None), (7, 5, None), (5, 4, None), (9, 7, None)], ["", "", "late", ""]),
    "a new count": ([(5, 4, None), (2, 1, None), (3, 2, None), (4, 3, None)], ["", "late", "gap", ""]),
    "a new count after a snapshot": (
        [(5, 4, None), (None, None, 5), (2, 1, None), (3, 2, None), (9, 8, None)],
        ["", "", "late", "gap", "gap"],
    ),
    "messages without numbers": ([(None, None, None), (5, 4, None), (None, None, None), (6, 5, None)], [""] * 4),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    updates, expected = CASES[name]
    assert flags(updates) == expected
    assert all(flags(updates, cut) == expected for cut in range(len(updates) + 1))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 12), st.none() | st.integers(0, 12), st.sampled_from([None] * 9 + [6, 9])),
        max_size=20,
    ),
    st.integers(0, 20),
)
def test_pieces_do_not_matter_and_an_unbroken_stream_fits(updates, cut):
    assert flags(updates) == flags(updates, min(cut, len(updates)))
    unbroken = [(number + 1, number, None) for number in range(len(updates))]
    assert flags(unbroken) == [""] * len(updates)


def ob500(updates: list[tuple[str, int]]) -> bytes:
    lines = [
        {"topic": "orderbook.500.AVAXUSDT", "type": type_, "ts": 1760130960100 + 100 * i}
        | {"data": {"s": "AVAXUSDT", "b": [[str(20 - i), "5"], ["1", "1"]], "a": [["30", "4"]], "u": u, "seq": 10 + u}}
        for i, (type_, u) in enumerate(updates)
    ]
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.data", "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    return buffer.getvalue()


def test_first_row_of_the_message_after_lost_ones_says_so(write):
    path = write("a.data.zip", ob500([("snapshot", 1), ("delta", 2), ("delta", 4), ("delta", 5), ("snapshot", 1)]))
    frame = open_tape(path, "book").frame()
    assert frame.with_row_index().filter("gap")["index"].to_list() == [6]
    assert frame["snapshot"].to_list() == [True] * 3 + [False] * 9 + [True] * 3


def test_news_of_lost_messages_passes_over_a_message_that_is_left_out(write):
    data = ob500([("snapshot", 1), ("delta", 3), ("delta", 4)])
    text = zipfile.ZipFile(BytesIO(data)).read("a.data").decode()
    lines = text.splitlines(keepends=True)
    lines[1] = lines[1].replace('[["19","5"],["1","1"]]', "[]").replace('[["30","4"]]', "[]")
    tape = open_tape(write("a.data", "".join(lines)), "book")
    frame = tape.frame()
    assert tape.counts["empty_messages"] == 1
    assert frame.with_row_index().filter("gap")["index"].to_list() == [3]


def test_recording(write, samples):
    name = "cm_btcusd_perp_20240808.gz"
    text = gzip.decompress((samples / "recording" / name).read_bytes()).decode()
    assert not open_tape(samples / "recording" / name, "book").frame()["gap"].any()
    lost = text.replace('"U":108,"u":109,"pu":107', '"U":110,"u":111,"pu":109')
    frame = open_tape(write(name, gzip.compress(lost.encode())), "book").frame()
    assert frame["gap"].to_list() == [False] * (frame.height - 1) + [True]


def test_ordered_depth(write, samples):
    text = (samples / "binance" / "BTCUSDT_T_DEPTH_2022-11-01.csv").read_text()
    more = "BTCUSDT,1667346579300,{},{},a,set,20000.20,1,{}\n"
    path = write("BTCUSDT_T_DEPTH_1.csv", text + more.format(13, 14, 12) + more.format(17, 18, 16))
    assert open_tape(path, "book").frame()["gap"].to_list() == [False] * 4 + [True]


def test_a_flag_of_the_vendor(write, samples):
    text = gzip.decompress((samples / "databento" / "mbo.csv.gz").read_bytes()).decode()
    path = write("mbo.csv", text.replace(",1,128,0,5,ESH4", ",1,132,0,5,ESH4").replace(",99,128,", ",99,132,"))
    frame = open_tape(path, "book").frame()
    assert frame["gap"].sum() == 1
    assert not open_tape(samples / "databento" / "mbo.csv.gz", "book").frame()["gap"].any()


@pytest.mark.parametrize(
    "name", ["cm_btcusd_perp_20240808", "cm_btcusd_perp_20240809", "spot_btcusdt_20240808", "usdm_btcusdt_20240808"]
)
def test_real_recordings_have_no_gap(shared_data, name):
    assert not open_tape(shared_data / "hftbacktest-raw" / f"{name}.gz", "book").frame()["gap"].any()


def test_real_ob500_has_no_gap(shared_data):
    assert not open_tape(shared_data / "format-samples" / "xrpusdt-ob500.data.zip", "book").frame()["gap"].any()
