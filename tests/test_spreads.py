"""Spreads and impact of each trade: by hand, by the plain reference, by identity, and against published numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feeding import simulated
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from reference.classify import Quote
from reference.microprice import expected_moves
from reference.spreads import spread as reference

from toxmid.engine import Engine
from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.microprice import MicroPrice
from toxmid.params import Params
from toxmid.spreads import spreads

SECOND = 10**9
START = 1_760_054_400 * SECOND
NAN = float("nan")
HORIZONS = {"1s": SECOND, "3s": 3 * SECOND}
Trade = tuple[int, float, int]  # second, price, side


def trades_of(trades: list[Trade]) -> pl.DataFrame:
    rows = [(START + ts * SECOND, price, 2.0, side) for ts, price, side in trades]
    schema = {"ts": pl.Int64, "price": pl.Float64, "size": pl.Float64, "side": pl.Int8}
    return pl.DataFrame(rows, schema=schema, orient="row")


def quotes_of(quotes: list[Quote]) -> pl.DataFrame:
    rows = [(START + ts * SECOND, bid, ask) for ts, bid, ask in quotes]
    return pl.DataFrame(rows, schema={"ts": pl.Int64, "bid": pl.Float64, "ask": pl.Float64}, orient="row")


TRADES: list[Trade] = [(0, 100.0, 1), (2, 101.0, 1), (4, 99.0, -1), (6, 103.0, 0), (9, 104.0, 1)]
QUOTES: list[Quote] = [(1, 99.0, 101.0), (4, 99.5, 100.5), (5, 102.0, 104.0), (8, 105.0, 103.0)]


def test_by_hand() -> None:
    table = spreads(trades_of(TRADES), quotes_of(QUOTES), horizons=["1s", "3s"])
    # Quotes before: nothing; 99/101; 99/101 (that of time 4 comes after the trade of time 4); 102/104; crossed.
    expected = {
        "direction": [1, 1, -1, 0, 1],
        "bid": [None, 99.0, 99.0, 102.0, 105.0],
        "ask": [None, 101.0, 101.0, 104.0, 103.0],
        "mid": [None, 100.0, 100.0, 103.0, None],
        "quoted_spread": [None, 2.0, 2.0, 2.0, None],
        "effective_spread": [None, 2.0, 2.0, None, None],
        # Mids after 1 s: 100 (of time 1 itself), 100, 103, 103, not reached; 3 s: 100, 103, 103, crossed, not reached.
        "realized_spread_1s": [0.0, 2.0, 8.0, None, None],
        "impact_1s": [None, 0.0, -3.0, None, None],
        "realized_spread_3s": [0.0, -4.0, 8.0, None, None],
        "impact_3s": [None, 3.0, -3.0, None, None],
    }
    assert table.select(expected.keys()).to_dict(as_series=False) == expected
    known = (pl.col("ts_known_3s") - pl.col("ts")).dt.total_seconds()
    assert table.select(known).to_series().to_list() == [3, 3, 3, 3, None]


def test_columns_and_types() -> None:
    table = spreads(trades_of(TRADES), quotes_of(QUOTES), horizons=["1s"])
    at_once = ["ts", "price", "size", "direction", "bid", "ask", "mid", "quoted_spread", "effective_spread"]
    in_bps = ["quoted_spread_bps", "effective_spread_bps", "realized_spread_1s_bps", "impact_1s_bps"]
    assert table.columns == [*at_once, "realized_spread_1s", "impact_1s", "ts_known_1s", *in_bps]
    moment = pl.Datetime("ns", "UTC")
    assert (table.schema["ts"], table.schema["ts_known_1s"], table.schema["direction"]) == (moment, moment, pl.Int8)


def test_default_horizons() -> None:
    table = spreads(trades_of(TRADES), quotes_of(QUOTES))
    assert [name for name in table.columns if name.startswith("ts_known")] == [
        f"ts_known_{h}" for h in ("1s", "5s", "30s", "60s", "300s")
    ]


def test_direction_by_rule_needs_no_sides() -> None:
    trades = trades_of(TRADES).drop("side")
    assert spreads(trades, quotes_of(QUOTES), direction="quote")["direction"].to_list() == [0, 1, -1, 0, 0]
    unknown = spreads(trades, quotes_of(QUOTES))
    assert unknown["direction"].to_list() == [0] * 5
    assert unknown["effective_spread"].null_count() == 5


def test_weighted_mid_leans_to_the_thin_side() -> None:
    quotes = quotes_of([(1, 99.0, 101.0), (3, 100.0, 104.0), (5, 99.0, 101.0)])
    sized = quotes.with_columns(bid_size=pl.Series([3.0, 1.0, 0.0]), ask_size=pl.Series([1.0, 1.0, 0.0]))
    table = spreads(trades_of([(2, 101.0, 1), (6, 101.0, 1)]), sized, horizons=["1s"], benchmark="weighted_mid")
    assert table["mid"].to_list() == [100.0, 100.0]
    assert table["weighted_mid"].to_list() == [100.5, None]  # nothing shown on either side: no weights
    assert table["effective_spread"].to_list() == [1.0, None]
    assert table["impact_1s"].to_list() == [1.5, None]
    with pytest.raises(DataError, match="bid_size"):
        spreads(trades_of(TRADES), quotes, benchmark="weighted_mid")


def test_micro_price_goes_where_the_mid_has_gone_before() -> None:
    quotes = quotes_of([(1, 99.0, 101.0), (3, 99.0, 101.0), (5, 99.0, 101.0), (7, 101.0, 99.0)])
    sized = quotes.with_columns(bid_size=pl.Series([9.0, 1.0, 0.0, 1.0]), ask_size=pl.Series([1.0, 9.0, 0.0, 1.0]))
    # One spread state; the five imbalances move the mid by -20, -10, 0, 10, 20 bps.
    micro = MicroPrice(np.full(3, np.inf), np.tile([-20.0, -10.0, 0.0, 10.0, 20.0], (4, 1)))
    trades = trades_of([(2, 101.0, 1), (4, 101.0, 1), (6, 101.0, 1), (8, 101.0, 1)])
    table = spreads(trades, sized, horizons=["1s"], benchmark="micro_price", micro=micro)
    up, down = 100.0 * np.exp(0.002), 100.0 * np.exp(-0.002)
    assert table["mid"].to_list() == [100.0, 100.0, 100.0, None]
    assert table["micro_price"].to_list() == [pytest.approx(up), pytest.approx(down), None, None]
    effective = [pytest.approx(2 * (101 - up)), pytest.approx(2 * (101 - down)), None, None]
    assert table["effective_spread"].to_list() == effective
    assert table["impact_1s"].to_list() == [pytest.approx(down - up), None, None, None]
    rest = table["effective_spread"] - table["realized_spread_1s"] - 2 * table["impact_1s"]
    assert rest[0] == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ParameterError, match="must have learnt"):
        spreads(trades, sized, benchmark="micro_price")
    with pytest.raises(DataError, match="bid_size"):
        spreads(trades, quotes, benchmark="micro_price", micro=micro)


def test_micro_price_learns_from_quotes_what_it_learns_from_bars() -> None:
    tables = simulated("calm", duration=900.0)
    engine = Engine()
    engine.feed(quotes=tables["quotes"])
    engine.finish()
    bars = engine.take_bars()
    from_bars, from_quotes = MicroPrice.fit([bars]), MicroPrice.fit_quotes(tables["quotes"])
    assert from_quotes.edges.tolist() == pytest.approx(from_bars.edges.tolist(), rel=1e-12)
    assert from_quotes.adjustment.ravel().tolist() == pytest.approx(from_bars.adjustment.ravel().tolist(), abs=1e-9)
    with pytest.raises(NotEnoughDataError):
        MicroPrice.fit_quotes(tables["quotes"][:50])
    with pytest.raises(NotEnoughDataError):
        MicroPrice.fit_quotes(tables["quotes"][:0])


@pytest.mark.parametrize(("scenario", "step"), [("calm", "1s"), ("info", "3s")])
def test_micro_price_is_the_expected_sum_of_all_moves_to_come(scenario: str, step: str) -> None:
    engine = Engine(Params(bar=step))
    engine.feed(quotes=simulated(scenario, duration=900.0)["quotes"])
    engine.finish()
    bars = engine.take_bars()
    micro, columns = MicroPrice.fit([bars]), bars.select("mid", "spread_bps", "bid_size", "ask_size").fill_null(NAN)
    assert micro.edges.tolist() == pytest.approx(np.nanquantile(columns["spread_bps"], [0.25, 0.5, 0.75]), rel=1e-12)
    expected = expected_moves(columns.rows(), micro.edges.tolist())
    assert len(expected) > 12
    for (spread, imbalance), move in expected.items():
        assert micro.adjustment[spread, imbalance] == pytest.approx(move, rel=1e-5, abs=1e-6)
    assert np.abs(micro.adjustment).max() > 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "guess"}, "no such direction"),
        ({"benchmark": "last"}, "no such benchmark"),
        ({"horizons": ["5 minutes"]}, "horizon is not a length of time"),
        ({"horizons": ["1s", "1s"]}, "different times"),
        ({"horizons": "1s"}, "horizon"),
    ],
)
def test_wrong_parameters(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        spreads(trades_of(TRADES), quotes_of(QUOTES), **arguments)  # type: ignore[arg-type]


def test_time_that_goes_back() -> None:
    with pytest.raises(DataError, match="time goes back in the quotes"):
        spreads(trades_of(TRADES), quotes_of(QUOTES[::-1]))


@pytest.mark.parametrize(("trades", "quotes"), [([], []), ([], QUOTES), (TRADES, [])])
def test_empty_tapes(trades: list[Trade], quotes: list[Quote]) -> None:
    table = spreads(trades_of(trades), quotes_of(quotes))
    assert table.height == len(trades)
    assert table["mid"].null_count() == len(trades)


PRICE = st.integers(95, 105).map(float)
QUOTED = st.one_of(PRICE, PRICE, PRICE, st.sampled_from([NAN, 0.0]))


@st.composite
def tapes(draw: st.DrawFn) -> tuple[list[Trade], list[Quote]]:
    n, m = draw(st.integers(1, 8)), draw(st.integers(0, 10))
    times = sorted(draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)))
    quote_times = sorted(draw(st.lists(st.integers(0, 12), min_size=m, max_size=m)))
    trades = [(ts, draw(PRICE), draw(st.sampled_from([1, -1, 0]))) for ts in times]
    return trades, [(ts, draw(QUOTED), draw(QUOTED)) for ts in quote_times]


@given(tapes())
def test_equals_the_plain_reference(tape: tuple[list[Trade], list[Quote]]) -> None:
    trades, quotes = tape
    table = spreads(trades_of(trades), quotes_of(quotes), horizons=list(HORIZONS))
    in_ns = [(START + ts * SECOND, bid, ask) for ts, bid, ask in quotes]
    end = START + SECOND * max(ts for ts, *_ in [*trades, *quotes])
    table = table.with_columns(pl.col(f"ts_known_{name}").dt.epoch("ns") for name in HORIZONS)
    for row, (ts, price, side) in zip(table.iter_rows(named=True), trades, strict=True):
        for name, value in reference((START + ts * SECOND, price, side), in_ns, HORIZONS, end).items():
            exact = value is None or name.startswith("ts_known")
            assert row[name] == (value if exact else pytest.approx(value, rel=1e-12, abs=1e-9)), name


@given(tapes())
def test_effective_is_realized_plus_twice_impact(tape: tuple[list[Trade], list[Quote]]) -> None:
    table = spreads(trades_of(tape[0]), quotes_of(tape[1]), horizons=["2s"])
    for unit in ("", "_bps"):
        rest = pl.col(f"effective_spread{unit}") - pl.col(f"realized_spread_2s{unit}") - 2 * pl.col(f"impact_2s{unit}")
        assert table.select(rest.abs().fill_null(0.0).max()).item() < 1e-9


@given(tapes())
def test_mirrored_tape(tape: tuple[list[Trade], list[Quote]]) -> None:
    """Buys for sells and bids for asks: every spread and impact in price units is what it was."""
    trades = [(ts, 200.0 - price, -side) for ts, price, side in tape[0]]
    quotes = [(ts, 200.0 - ask if ask else NAN, 200.0 - bid if bid else NAN) for ts, bid, ask in tape[1]]
    columns = ["quoted_spread", "effective_spread", "realized_spread_2s", "impact_2s", "ts_known_2s"]
    one = spreads(trades_of(tape[0]), quotes_of(tape[1]), horizons=["2s"])
    other = spreads(trades_of(trades), quotes_of(quotes), horizons=["2s"])
    assert_frame_equal(one.select(columns), other.select(columns), check_exact=True)
    assert other["direction"].to_list() == (-one["direction"]).to_list()


@given(tapes(), st.integers(0, 12))
def test_a_tape_cut_short_says_the_same_as_far_as_it_goes(tape: tuple[list[Trade], list[Quote]], cut: int) -> None:
    trades = [trade for trade in tape[0] if trade[0] <= cut]
    quotes = [quote for quote in tape[1] if quote[0] <= cut]
    whole = spreads(trades_of(tape[0]), quotes_of(tape[1]), horizons=["2s"])[: len(trades)]
    short = spreads(trades_of(trades), quotes_of(quotes), horizons=["2s"])
    later = ["realized_spread_2s", "impact_2s", "ts_known_2s", "realized_spread_2s_bps", "impact_2s_bps"]
    assert_frame_equal(whole.drop(later), short.drop(later), check_exact=True)
    end = START + SECOND * max((ts for ts, *_ in [*trades, *quotes]), default=0)
    reached = pl.col("ts_known_2s").dt.epoch("ns") <= end
    known = whole.select(pl.when(reached).then(pl.col(name)).alias(name) for name in later)
    assert_frame_equal(known, short.select(later), check_exact=True)


def test_equals_highfrequency_on_its_tape(shared_data: Path) -> None:
    path = shared_data / "highfrequency" / "B_liquidity_win300.csv.gz"
    tape = pl.read_csv(path, infer_schema_length=None, null_values="NA").with_row_index("row")
    # That package counts its horizon in rows, not in time: a clock of one row a second makes the two the same.
    ts = START + pl.col("row").cast(pl.Int64) * SECOND
    trades = tape.select(ts=ts, price="PRICE", size="SIZE")
    quotes = tape.select(ts=ts - 1, bid="BID", ask="OFR")
    table = spreads(trades, quotes, horizons=["300s"], direction="lee_ready")
    assert table["direction"].to_list() == tape["direction"].to_list()
    for ours, theirs in [
        ("quoted_spread", "quotedSpread"),
        ("effective_spread", "effectiveSpread"),
        ("realized_spread_300s", "realizedSpread"),
        ("impact_300s", "priceImpact"),
    ]:
        assert table[ours].null_count() == tape[theirs].null_count()
        assert (table[ours] - tape[theirs]).abs().max() < 1e-9
    assert (table["quoted_spread_bps"] - 1e4 * tape["logQuotedSpread"]).abs().max() < 1e-9
