"""Inspection: what is said of good files, of doubtful files, and of files that cannot be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from toxmid import inspect as inspect_module
from toxmid.convert import convert
from toxmid.errors import FileError, ParameterError
from toxmid.inspect import find_instrument, inspect_files, pair_inspected
from toxmid.instrument import Instrument
from toxmid.readers import Tape, TapeWarning, open_tape
from toxmid.readers.files import GUNZIP

HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
T0 = 1_760_130_960_000_000


def row(index: int, *, side: str = "buy", price: str = "20", amount: str = "1", venue: str = "binance-futures") -> str:
    at = T0 + index * 1_000_000
    return f"{venue},AVAXUSDT,{at},{at + 5000},{index},{side},{price},{amount}\n"


@pytest.fixture
def look(tmp_path: Path):
    def _look(content: str | bytes, name: str = "x_trades_1.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        (result,) = inspect_files(path)
        return result

    return _look


def test_a_good_file(look):
    rows = [
        row(i, side="buy" if i % 2 else "sell", price=f"{20 + i / 20:.2f}", amount=str(2 + 4 * i)) for i in range(4)
    ]
    result = look(HEADER + "".join(rows))
    (kind,) = result.kinds
    assert result.formats == ("tardis-trades",)
    assert result.clock == "arrival (local_timestamp)"
    assert (result.instrument.tick, result.instrument.lot) == (0.05, 2.0)
    assert (result.instrument.origin["tick"], result.instrument.origin["inverse"]) == ("found", "known")
    assert (kind.kind, kind.rows, kind.counts) == ("trades", 4, {"rows_read": 4, "rows_used": 4})
    assert (kind.last - kind.first, kind.longest_silence) == (3 * 10**9, 10**9)
    assert (kind.median_latency, kind.max_latency) == (5 * 10**6, 5 * 10**6)
    assert result.problems == kind.problems == ()
    assert result.error is None


def test_text_says_it_all(look):
    text = look(HEADER + row(0) + row(0) + row(1, side="unknown", price="20.5")).to_text()
    assert text.splitlines()[1:] == [
        "  format       tardis-trades",
        "  instrument   binance-futures AVAXUSDT",
        "               linear (known), contract value 1 (known), lot unknown, tick 0.5 (found)",
        "  units        price: quote currency; size: base coin",
        "  clock        arrival (local_timestamp)",
        "  trades       3 rows read, 2 used",
        "               2025-10-10T21:16:00.005Z to 2025-10-10T21:16:01.005Z (1 s)",
        "               longest silence 1 s",
        "               latency median 5 ms, largest 5 ms",
        "  problems     trades: 1 row left out: duplicates",
        "               trades: 1 row of unknown side",
    ]


def test_json_round_trip(samples):
    for folder in ("tardis", "binance", "recording", "canonical"):
        for result in inspect_files(samples / folder):
            values = json.loads(json.dumps(result.to_dict()))
            assert values["error"] is None
            assert Instrument.from_dict(values["instrument"]) == result.instrument
            assert [kind["kind"] for kind in values["kinds"]] == [kind.kind for kind in result.kinds]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([row(1), row(0, side="sell")], "time goes back at 1 row; it must be sorted"),
        ([row(0), row(1, side="sell", amount="-1")], "1 row with a price or size that is no positive number"),
        ([row(0), row(1, side="sell", price="")], "1 row with a price or size that is no positive number"),
        ([row(i) for i in range(30)], "every trade is on one side"),
        ([], "no rows"),
    ],
)
def test_problems_of_trades(look, rows, problem):
    assert problem in look(HEADER + "".join(rows)).kinds[0].problems


def test_a_clock_behind_the_exchange(samples):
    (result,) = inspect_files(samples / "recording" / "cm_btcusd_perp_20240808.gz")
    assert [kind.kind for kind in result.kinds] == ["trades", "book", "quotes"]
    assert "the local clock is behind the exchange by 1.26 s (median)" in result.kinds[0].problems
    assert "3 rows before the first snapshot" in result.kinds[1].problems


def test_a_book_without_snapshot(look):
    header = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
    result = look(header + f"bybit,BTCUSDT,{T0},{T0},false,bid,6400,0\n")
    assert result.kinds[0].problems == ("no snapshot, so the book never starts",)


def test_quotes_that_cross(look):
    header = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"
    result = look(header + f"bybit,BTCUSDT,{T0},{T0},1,100,100,1\nbybit,BTCUSDT,{T0},{T0},1,101,100,1\n")
    assert result.kinds[0].problems == ("1 row with a bid not below the ask",)


def test_an_assumed_contract(samples):
    (result,) = inspect_files(samples / "tardis" / "binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz")
    assert result.problems == ("contract value 10 is assumed; instrument= sets it",)
    assert "contracts of 10 quote" in result.to_text()
    path = samples / "tardis" / "binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz"
    (given,) = inspect_files(path, instrument=Instrument(contract_value=10.0))
    assert given.problems == ()


def test_linear_contracts(look):
    result = look(HEADER + row(0, venue="okex-swap").replace("AVAXUSDT", "ETH-USDT-SWAP"))
    assert "contracts of 0.1 base coin" in result.to_text()


def test_two_formats_fit(look):
    result = look(HEADER + row(0), "x.csv")
    assert result.formats == ("tardis-trades", "tardis-liquidations")
    assert "may be tardis-trades or tardis-liquidations; --format chooses (format=)" in result.problems


def test_a_format_may_be_chosen(look, tmp_path):
    path = look(HEADER + row(0), "x.csv").path
    (chosen,) = inspect_files(path, format="tardis-trades")
    assert (chosen.formats, chosen.problems) == (("tardis-trades",), ())
    (other,) = inspect_files(path, format="bybit")
    assert "not a file of format bybit" in str(other.error)


def test_unknown_market(samples):
    (result,) = inspect_files(samples / "canonical" / "trades.parquet")
    assert result.problems == ("unknown whether linear or inverse; sizes are taken as base coin",)
    assert result.clock == "as given (ts)"


def test_empty_file(look):
    result = look("")
    assert (result.problems, result.error, result.kinds) == (("the file is empty",), None, ())


def test_a_file_that_cannot_be_read_does_not_stop_the_others(tmp_path):
    (tmp_path / "a.csv").write_text("<html></html>\n")
    (tmp_path / "b_trades_1.csv").write_text(HEADER + row(0))
    bad, good = inspect_files(tmp_path)
    assert isinstance(bad.error, FileError)
    assert "web page" in bad.to_text()
    assert good.error is None


def test_an_error_at_the_end_is_told_with_what_was_known(look):
    packed = gzip.compress((HEADER + "".join(map(row, range(10)))).encode())
    result = look(packed[:-4], "x_trades_1.csv.gz")
    assert result.formats == ("tardis-trades",)
    assert "end in the middle" in str(result.error)
    assert json.loads(json.dumps(result.to_dict()))["error"] == str(result.error)


def test_warnings_become_problems(look):
    result = look(gzip.compress((HEADER + row(0) + row(1, side="sell")).encode()) + bytes(512))
    assert result.problems == ("512 zero bytes after the gzip data were passed over",)


def test_no_file(tmp_path):
    with pytest.raises(FileError, match="no file"):
        inspect_files(tmp_path)


def test_median_of_many_latencies_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(inspect_module, "_KEPT", 1000)
    latency = inspect_module._Latency()
    values = np.random.default_rng(1).integers(0, 10**6, 50_000)
    for part in np.array_split(values, 77):
        latency.add(part)
    assert sum(map(len, latency._kept)) <= 1000
    assert latency.largest == values.max()
    assert abs(latency.median() - np.median(values)) < 50_000


def test_real_day(shared_data):
    (result,) = inspect_files(
        shared_data / "crash-2025-10-10" / "binance-delivery_trades_2025-10-10_UNIUSD_PERP.csv.gz"
    )
    (kind,) = result.kinds
    assert (kind.rows, result.instrument.tick, result.instrument.lot) == (274_457, 0.001, 1.0)
    assert 5_000_000 < kind.median_latency < 6_000_000
    assert 6.7e9 < kind.max_latency < 7.1e9


def test_bands_that_stand_still_are_named(samples):
    (result,) = inspect_files(samples / "binance" / "AVAXUSDT-bookDepth-2025-10-10.zip")
    at = "2025-10-10T00:01:07Z"
    assert result.kinds[0].problems == (f"bids within 1 % stand still: 1 row from {at} to {at}",)


def test_real_bands_that_froze(shared_data):
    (result,) = inspect_files(shared_data / "binance-archive" / "BTCUSDT-bookDepth-2025-10-10.csv")
    frozen = result.kinds[0].problems
    assert frozen[0] == "bids within 1 % stand still: 900 rows from 2025-10-10T15:34:33Z to 2025-10-10T23:59:30Z"
    assert all(problem.startswith("bids") for problem in frozen)


def test_several_instruments_are_listed(look):
    rows = [row(i).replace("AVAXUSDT", symbol) for i, symbol in enumerate(("AVAXUSDT", "BTCUSDT", "BTCUSDT", "C"))]
    result = look(HEADER + "".join(rows))
    assert [(market.venue, market.symbol, market.rows) for market in result.markets] == [
        ("binance-futures", "BTCUSDT", 2), ("binance-futures", "AVAXUSDT", 1), ("binance-futures", "C", 1),
    ]  # fmt: skip
    assert (result.error, result.kinds) == (None, ())
    assert result.problems[0].startswith("rows of 3 instruments; --symbol chooses one")
    text = result.to_text()
    assert "instruments  binance-futures BTCUSDT: 2 rows, 2025-10-10T21:16:01.005Z to 2025-10-10T21:16:02.005Z" in text
    assert json.loads(json.dumps(result.to_dict()))["markets"][0]["symbol"] == "BTCUSDT"
    (chosen,) = inspect_files(result.path, instrument=Instrument(symbol="BTCUSDT"))
    assert (chosen.markets, chosen.kinds[0].rows) == ((), 2)
    assert pair_inspected([result]).jobs == ()


def test_real_file_of_many_coins(shared_data):
    (result,) = inspect_files(shared_data / "hyperliquid" / "non_mm_trades.csv")
    assert (result.markets[0].symbol, result.markets[0].rows, len(result.markets)) == ("ARB", 17_759, 14)
    assert "and 4 more (--json lists all)" in result.to_text()


def test_a_file_of_which_no_row_can_be_used_says_why(shared_data):
    pytest.importorskip("databento_dbn", reason="DBN files are read by the optional package databento-dbn")
    (result,) = inspect_files(shared_data / "databento" / "test_data.mbo.v3.dbn.zst")
    assert [kind.problems for kind in result.kinds] == [("no rows", "2 rows left out: unknown orders")]


def test_what_unpacked_it(samples, look):
    (packed,) = inspect_files(samples / "tardis" / "coinbase_trades_2025-10-10_AVAX-USD.csv.gz")
    assert packed.unpacked_by == GUNZIP
    assert f"  unpacked by  {GUNZIP}" in packed.to_text(verbose=True).splitlines()
    assert GUNZIP not in packed.to_text()
    plain = look(HEADER + row(0))
    assert (plain.unpacked_by, "unpacked by" in plain.to_text(verbose=True)) == (None, False)


def test_a_tape_without_its_small_trades(look, shared_data):
    sides = ("buy", "sell")
    rows = [row(i, side=sides[i % 2], amount=f"{5 + i % 70 / 100:.2f}") for i in range(300)]
    assert look(HEADER + "".join(rows)).kinds[0].problems == (
        "no trade below 5, though the lot is 0.01: small trades were left out before",
    )
    assert look(HEADER + "".join(rows) + row(300, amount="0.02")).kinds[0].problems == ()
    real = shared_data / "recorder" / "binance_trades.csv"
    (result,) = inspect_files(real, instrument=Instrument(symbol="BTCUSDT"))
    assert any("small trades were left out" in problem for problem in result.kinds[0].problems)


def test_the_instrument_that_files_show(tmp_path, samples):
    """Read, or noted by whoever converted them; what is given wins, and of several files the finer grid holds."""
    name = samples / "recording" / "usdm_btcusdt_20230405.gz"
    found = find_instrument({"trades": name})
    assert (found.tick, found.origin["tick"], found.venue) == (0.1, "found", "binance-futures")
    done = convert(name, tmp_path / "x_trades.parquet", "trades")
    assert done.grids == {"tick": found.tick, "lot": found.lot}
    assert open_tape(done.path, "trades").stored_grids == [done.grids]
    assert open_tape(done.path, "trades").instrument.tick is None  # nobody is surprised by it
    assert find_instrument({"trades": done.path}) == found
    given = find_instrument({"trades": done.path}, instrument=Instrument(tick=0.5))
    assert (given.tick, given.origin["tick"]) == (0.5, "given")
    with pytest.raises(ParameterError, match="no files"):
        find_instrument({})


def test_noted_grids_need_no_second_look(tmp_path, samples, monkeypatch):
    done = convert(samples / "recording" / "usdm_btcusdt_20230405.gz", tmp_path / "x_trades.parquet", "trades")

    def read(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(Tape, "frames", read)
    assert find_instrument({"trades": done.path}).tick == done.grids["tick"]


def test_real_coin_has_a_lot(shared_data):
    (result,) = inspect_files(shared_data / "binance-archive" / "BTCUSDC-aggTrades-2025-10-04.zip")
    assert (result.instrument.tick, result.instrument.lot) == (0.01, 1e-05)
    assert result.clock == "exchange (transact_time)"


def test_a_table_of_something_else_is_no_tape(tmp_path: Path) -> None:
    """Parquet is only a container: what holds none of our tables is said to, and fails."""
    path = tmp_path / "candles.parquet"
    pl.DataFrame({"date": [1], "open": [2.0], "close": [3.0]}).write_parquet(path)
    found = inspect_files([path])[0]
    assert found.error is not None
    assert "no table we know" in str(found.error)


def test_what_is_wrong_with_a_file_of_several_instruments(shared_data: Path) -> None:
    """Before one of them is chosen: half of this real file is written twice."""
    (result,) = inspect_files(shared_data / "recorder" / "binance.csv")
    assert len(result.markets) > 200
    assert "1,668 rows left out: duplicates" in result.problems


def test_an_unsorted_file_lasts_from_its_first_moment_to_its_last(tmp_path: Path) -> None:
    rows = [f"binance-futures,BTCUSDT,{at},{at},{at},buy,100,1\n" for at in (T0 + 3_000_000, T0 + 1_000_000)]
    path = tmp_path / "x_trades.csv"
    path.write_text(HEADER + "".join(rows))
    (result,) = inspect_files(path)
    kind = result.kinds[0]
    assert (kind.last - kind.first, kind.problems) == (2 * 10**9, ("time goes back at 1 row; it must be sorted",))


def test_whose_a_file_is_that_cannot_be_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x_trades.csv"
    path.write_text(f"{HEADER}binance-futures,BTCUSDT,{T0},{T0},1,buy,1,1\nbi")
    (result,) = inspect_files(path)
    assert result.failed
    assert (result.instrument.venue, result.instrument.symbol) == ("binance-futures", "BTCUSDT")
    assert "--allow-partial" in str(result.error)


def test_a_cut_file_is_inspected_and_put_together_where_that_is_allowed(tmp_path: Path) -> None:
    row = f"binance-futures,BTCUSDT,{T0},{T0},1,buy,1,1\n"
    for name in ("x_trades.csv", "y_liquidations.csv"):  # without a date: the day is looked for in the rows
        (tmp_path / name).write_text(f"{HEADER}{row}bi")
    trades, liquidations = inspect_files(tmp_path, allow_partial=True)
    assert (trades.error, liquidations.error) == (None, None)
    assert trades.kinds[0].counts == {"rows_read": 2, "rows_used": 1, "partial_last_line": 1}
    assert any("1 row left out: partial last line" in text for text in trades.kinds[0].problems)
    (job,) = pair_inspected([trades, liquidations], allow_partial=True).jobs
    assert set(job.files) == {"trades", "liquidations"}
    assert not pair_inspected([trades, liquidations]).jobs


def test_every_sample_can_be_inspected(samples: Path) -> None:
    with pytest.warns(TapeWarning, match=r"passed over.*: trades\.txt$"):
        inspections = inspect_files(samples)
    tapes = [result for result in inspections if result.path.name != "truth.parquet"]  # what no tape shows
    assert [str(result.error) for result in tapes if result.failed] == []
    assert all(len(result.formats) == 1 for result in tapes)
    assert all(result.kinds or result.markets for result in tapes)


def test_nothing_is_said_of_a_market_that_was_not_seen(tmp_path: Path) -> None:
    pl.DataFrame({"timestamp": [1], "open": [2.0]}).write_parquet(tmp_path / "candles.parquet")
    (result,) = inspect_files(tmp_path / "candles.parquet")
    assert "found 'timestamp', 'open'" in str(result.error)
    assert not {"instrument", "units", "clock"} & set(result.to_text().split())
    assert (result.to_dict()["units"], result.to_dict()["clock"]) == (None, None)


def test_units_of_a_market_that_nobody_knows(samples: Path) -> None:
    (result,) = inspect_files(samples / "lobster" / "ABCD_2012-06-21_34200000_57600000_message_2.csv")
    assert result.to_dict()["units"] == "price and size: as the file has them; sizes are taken as base coin"
