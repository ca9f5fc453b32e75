"""Hyperliquid: each trade once, on the taker's side, and liquidations of the user who was forced."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import re
from pathlib import Path

import polars as pl
import pytest

from toxmid.errors import DataError, FileError
from toxmid.inspect import inspect_files
from toxmid.instrument import Instrument
from toxmid.pairing import pair_files
from toxmid.readers import SeveralInstrumentsError, base, open_tape, read_liquidations, read_trades
from toxmid.replay import replay


def test_fills_of_2023(samples):
    tape = open_tape(samples / "hyperliquid" / "trades_2023.csv", "trades")
    assert tape.frame().select("price", "size", "side").rows() == [(1600.5, 2.0, -1), (1600.6, 0.5, 1)]
    assert tape.counts == {"rows_read": 3, "rows_used": 2, "fills_of_makers": 1}


def test_node_fills(samples):
    tape = open_tape(samples / "hyperliquid" / "node_fills_20251010.gz", "trades")
    frame = tape.frame()
    assert frame.select("side", "id", "size").rows() == [(-1, "1", 1.5), (-1, "3", 1.5)]
    assert frame["ts"].to_physical().to_list() == [1760130960250000001] * 2
    assert frame["ts_event"].to_physical().to_list() == [1760130960100000000] * 2
    assert tape.counts == {"rows_read": 5, "rows_used": 2, "fills_of_makers": 2, "not_market_trades": 1}


def test_only_the_user_whom_a_liquidation_names_was_forced(samples):
    tape = open_tape(samples / "hyperliquid" / "node_fills_20251010.gz", "liquidations")
    assert tape.frame().select("side", "price", "size").rows() == [(-1, 4000.0, 1.5)]
    assert tape.counts == {"rows_read": 5, "rows_used": 1, "other_kinds": 4}


def test_several_coins_share_the_stream(write, samples):
    text = gzip.decompress((samples / "hyperliquid" / "node_fills_20251010.gz").read_bytes()).decode()
    both = write("node_fills", text + text.replace('"ETH"', '"@107"').replace('"tid": ', '"tid": 9'))
    with pytest.raises(DataError, match="two instruments"):
        read_trades(both)
    assert read_trades(both, instrument=Instrument(symbol="@107"))["id"].to_list() == ["91", "93"]


def test_line_that_is_no_block(write, samples):
    text = gzip.decompress((samples / "hyperliquid" / "node_fills_20251010.gz").read_bytes()).decode()
    for line in ("[]\n", '{"events": []}\n', text.splitlines()[0].replace('"px"', '"xp"') + "\n"):
        with pytest.raises(DataError, match="not a block of fills") as caught:
            read_trades(write("node_fills", text + line))
        assert caught.value.row == 4


@pytest.mark.parametrize("time", ["1" + "0" * 400, "-1", "1e999", '"soon"'])
def test_a_fill_at_no_time(write, samples, time):
    text = gzip.decompress((samples / "hyperliquid" / "node_fills_20251010.gz").read_bytes()).decode()
    with pytest.raises(DataError, match="not a block of fills") as caught:
        read_trades(write("node_fills", re.sub(r'"time": ?\d+', f'"time":{time}', text, count=1)))
    assert caught.value.row == 1


def test_a_first_row_that_is_too_short(write, samples):
    header = (samples / "hyperliquid" / "trades_2023.csv").read_text().splitlines()[0]
    with pytest.raises(DataError):
        read_trades(write("a.csv", f"{header}\nx,y\n"))


def test_last_word_tells_a_whole_line(write, samples):
    text = (samples / "hyperliquid" / "trades_2023.csv").read_text()
    assert read_trades(write("a.csv", text.removesuffix("\n"))).height == 2
    with pytest.raises(FileError, match="may be cut"):
        read_trades(write("a.csv", text.removesuffix("e\n")))


def test_time_that_is_none(write, samples):
    text = (samples / "hyperliquid" / "trades_2023.csv").read_text().replace("2023-03-01T00:00:07Z", "yesterday")
    with pytest.raises(DataError, match="not a time") as caught:
        read_trades(write("a.csv", text))
    assert (caught.value.row, caught.value.column) == (4, "time")


def test_real_fills(shared_data):
    path = shared_data / "hyperliquid" / "non_mm_trades.csv"
    tape = open_tape(path, "trades", instrument=Instrument(symbol="ETH"))
    frame = tape.frame()
    assert tape.counts == {"rows_read": 35_691, "rows_used": 3627, "other_instruments": 30_020, "fills_of_makers": 2044}
    assert frame["ts"].is_sorted()


FILLS = "time,user,coin,side,px,sz,crossed\n"
FORCED = "time,user,liquidated_ntl_pos,liquidated_account_value,leverage_type\n"


def at(second: int) -> str:
    return f"2023-03-01T00:00:{second:02}Z"


def fill(second: int, user: str = "0xaa", coin: str = "ETH", side: str = "Ask", price: float = 1600, **more) -> str:
    return f"{at(second)},{user},{coin},{side},{price},{more.get('size', 1)},{more.get('crossed', 'false')}\n"


def forced(second: int, user: str = "0xaa", value: float = 1) -> str:
    return f"{at(second)},{user},1600,{value},Cross\n"


def rows(path, **options) -> list[tuple[int, int, float]]:
    """Second, side and price of each liquidation of ETH."""
    frame = read_liquidations(path, instrument=Instrument(symbol="ETH"), **options)
    return frame.select(pl.col("ts").dt.second(), "side", "price").rows()


def test_liquidations_of_2023_have_coin_and_price_from_the_fills_of_their_users(samples):
    tape = open_tape(samples / "hyperliquid" / "liquidations_2023.csv", "liquidations")
    assert tape.frame().select("side", "price", "size").rows() == [(1, 1600.5, 2.0)]
    assert tape.counts == {"rows_read": 3, "rows_used": 1, "duplicates": 1, "without_fill": 1}
    assert (tape.instrument.venue, tape.instrument.symbol) == ("hyperliquid", "ETH")
    named = {entry["path"].rsplit("/", 1)[-1]: entry["format"] for entry in tape.inputs}
    assert named == {
        "liquidations_2023.csv": "hyperliquid-liquidations-2023",
        "trades_2023.csv": "hyperliquid-fills-2023",
    }


def test_fills_up_to_two_seconds_away_belong_to_a_liquidation(write):
    write("fills.csv", FILLS + "".join(fill(second, price=1600 + second) for second in range(7, 14)))
    path = write("liquidations.csv", FORCED + forced(10))
    # What came before the record is known with it; what came after it, then.
    assert rows(path) == [(10, -1, 1608.0), (10, -1, 1609.0), (10, -1, 1610.0), (11, -1, 1611.0), (12, -1, 1612.0)]
    frame = read_liquidations(path)
    assert frame["ts_event"].dt.second().to_list() == [8, 9, 10, 11, 12]


def test_a_fill_belongs_to_the_nearest_liquidation_of_its_user_and_to_one_only(write):
    write("fills.csv", FILLS + fill(10) + fill(12, side="Bid") + fill(11, user="0xBB", price=7))
    path = write("liquidations.csv", FORCED + forced(10) + forced(12, value=2) + forced(12, user="0xbb"))
    assert rows(path) == [(10, -1, 1600.0), (12, 1, 1600.0), (12, -1, 7.0)]
    tape = open_tape(write("liquidations.csv", FORCED + forced(10) + forced(11, value=2)), "liquidations")
    assert tape.frame()["ts"].dt.second().to_list() == [10, 12]


def test_what_the_user_took_himself_was_not_forced(write):
    write("fills.csv", FILLS + fill(10) + fill(10, crossed="true", price=9))
    tape = open_tape(write("liquidations.csv", FORCED + forced(10)), "liquidations")
    assert tape.frame()["price"].to_list() == [1600.0]
    assert tape.counts == {"rows_read": 2, "rows_used": 1, "fills_of_takers": 1}


def test_a_liquidation_in_two_coins_is_a_row_in_each(write):
    write("fills.csv", FILLS + fill(10) + fill(10, coin="SOL", price=20))
    path = write("liquidations.csv", FORCED + forced(10))
    assert rows(path) == [(10, -1, 1600.0)]
    with pytest.raises(SeveralInstrumentsError):
        read_liquidations(path)
    (told,) = inspect_files(path)
    assert {market.symbol: market.rows for market in told.markets} == {"ETH": 1, "SOL": 1}


def test_liquidations_without_their_fills_are_an_error_that_says_so(write, tmp_path):
    path = write("liquidations.csv", FORCED + forced(10))
    for look in (read_liquidations, pair_files):
        with pytest.raises(FileError, match=r"name no coin and no price.*expected a file of time, user, coin"):
            look(path)
    (told,) = inspect_files(path)
    assert "name no coin" in str(told.error)


def test_the_fills_may_stand_elsewhere_if_they_are_given_along(write, tmp_path):
    path = write("liquidations.csv", FORCED + forced(10))
    (tmp_path / "fills").mkdir()
    fills = write("fills/fills.csv", FILLS + fill(10) + fill(10, coin="SOL") + fill(59, crossed="true"))
    assert rows([path, fills]) == rows([fills, path]) == [(10, -1, 1600.0)]
    assert rows([path, fills], format="hyperliquid-liquidations-2023") == [(10, -1, 1600.0)]
    (job,) = pair_files(tmp_path, symbol="ETH")
    assert job.files == {"trades": (fills,), "liquidations": (path, fills)}
    ours = Instrument(symbol="ETH")
    for source in (path, [path, fills]):
        result = replay(trades=fills, liquidations=source, instrument=ours)
        assert result.counts["by_input"]["liquidations"]["rows_used"] == 1
        assert [entry["path"] for entry in result.manifest["inputs"]] == [str(fills), str(path), str(fills)]
    told = {inspection.path: inspection for inspection in inspect_files(tmp_path, instrument=ours)}
    assert told[path].kinds[0].rows == 1
    # Those in its own folder go before others that are only found.
    beside = write("own.csv", FILLS + fill(10, price=5))
    assert rows(path) == [(10, -1, 5.0)]
    (job,) = pair_files({"trades": fills, "liquidations": [path, beside]}, symbol="ETH")
    assert job.files["liquidations"] == (path,)


def test_equal_fills_are_two_but_a_copied_file_makes_no_more_of_them(write):
    write("fills.csv", FILLS + 2 * fill(10))
    path = write("liquidations.csv", FORCED + forced(10))
    assert rows(path) == 2 * [(10, -1, 1600.0)]
    write("fills_copy.csv", FILLS + 2 * fill(10) + fill(11))
    tape = open_tape(path, "liquidations")
    assert tape.frame().height == 3
    assert tape.counts == {"rows_read": 5, "rows_used": 3, "duplicates": 2}


def test_a_window_and_blocks_of_one_line(write, monkeypatch):
    write("fills.csv", FILLS + "".join(fill(second) for second in range(60)))
    path = write("liquidations.csv", FORCED + forced(10) + forced(30, value=2))
    whole = rows(path)
    assert len(whole) == 10
    assert rows(path, start="2023-03-01T00:00:11", end="2023-03-01T00:00:31") == whole[3:8]
    monkeypatch.setattr(base, "BLOCK", 100)
    assert rows(path) == whole


def test_a_file_of_liquidations_without_a_row(write):
    write("fills.csv", FILLS + fill(10))
    tape = open_tape(write("liquidations.csv", FORCED), "liquidations")
    assert (tape.frame().height, tape.counts) == (0, {"rows_read": 0, "rows_used": 0})


def test_a_damaged_row_is_told_by_the_file_it_stands_in(write):
    fills = write("fills.csv", FILLS + fill(10) + fill(11).replace("Ask", "Aks"))
    path = write("liquidations.csv", FORCED + forced(10))
    with pytest.raises(DataError) as caught:
        read_liquidations(path)
    assert (caught.value.file, caught.value.row, caught.value.column) == (str(fills), 3, "side")
    write("fills.csv", FILLS + fill(10))
    with pytest.raises(DataError) as caught:
        read_liquidations(write("liquidations.csv", FORCED + forced(10) + forced(11).replace("Cross", "cross")))
    assert (caught.value.file, caught.value.row, caught.value.column) == (str(path), 3, "leverage_type")


def independent_join(folder: Path) -> dict[str, list[tuple[int, int, float, float]]]:
    """Forced fills by coin, with the standard library alone."""
    texts = [(folder / name).read_text().splitlines() for name in ("liquidations.csv", "non_mm_trades.csv")]
    read = [list(csv.DictReader(text)) for text in texts]
    times = [[int(dt.datetime.fromisoformat(row["time"]).timestamp()) for row in table] for table in read]
    found: dict[str, list[tuple[int, int, float, float]]] = {}
    for said, liquidation in zip(times[0], read[0], strict=True):
        near = [
            (max(said, second), {"Bid": 1, "Ask": -1}[row["side"]], float(row["px"]), float(row["sz"]), row["coin"])
            for second, row in zip(times[1], read[1], strict=True)
            if row["user"] == liquidation["user"] and abs(second - said) <= 2
        ]
        assert near
        for *event, coin in near:
            found.setdefault(coin, []).append(tuple(event))
    return found


def test_real_liquidations(shared_data):
    folder = shared_data / "hyperliquid"
    expected = independent_join(folder)
    assert sum(map(len, expected.values())) == 69
    with pytest.raises(SeveralInstrumentsError):
        read_liquidations(folder / "liquidations.csv")
    for coin, events in expected.items():
        tape = open_tape(folder / "liquidations.csv", "liquidations", instrument=Instrument(symbol=coin))
        seconds = pl.col("ts").to_physical() // 10**9
        assert sorted(tape.frame().select(seconds, "side", "price", "size").rows()) == sorted(events)
        assert tape.counts["rows_read"] == 69  # each of the 62 has a fill, five have more
