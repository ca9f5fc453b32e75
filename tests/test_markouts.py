"""Markout curves: by hand, by the plain reference, by a clustered regression, cut short, mirrored, on a real tape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from feeding import NAN, SECOND, START, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from reference.classify import Quote
from reference.markouts import Marked, mean_markout

from toxmid.errors import DataError, ParameterError
from toxmid.markouts import markouts
from toxmid.readers import read_quotes, read_trades

COLUMNS = ["markout_bps", "bse_bps", "trades", "volume", "blocks", "ts_known"]


def trades_of(trades: list[Marked]) -> pl.DataFrame:
    schema = {"ts": pl.Int64, "price": pl.Float64, "size": pl.Float64, "side": pl.Int8}
    return pl.DataFrame([(START + ts * SECOND, *rest) for ts, *rest in trades], schema=schema, orient="row")


def quotes_of(quotes: list[Quote]) -> pl.DataFrame:
    rows = [(START + ts * SECOND, bid, ask) for ts, bid, ask in quotes]
    return pl.DataFrame(rows, schema={"ts": pl.Int64, "bid": pl.Float64, "ask": pl.Float64}, orient="row")


def row_of(table: pl.DataFrame, group: str, side: str, horizon: str) -> dict[str, Any]:
    return table.filter(group=group, side=side, horizon=horizon).row(0, named=True)


def test_by_hand() -> None:
    trades: list[Marked] = [(0, 100.0, 1.0, 1), (1, 100.0, 3.0, -1), (2, 100.0, 5.0, 0), (70, 100.0, 1.0, 1)]
    quotes: list[Quote] = [(1, 100.0, 102.0), (2, 98.0, 100.0), (3, 104.0, 103.0), (80, 100.0, 102.0)]
    table = markouts(trades_of(trades), quotes_of(quotes), horizons=["1s", "10s"])
    up, down = 1e4 * np.log(1.01), 1e4 * np.log(0.99)
    # After 1 s: 101 for the buy of 0, 99 for the sell of 1, a crossed quote for the buy of 70.
    whole = row_of(table, "all", "all", "1s")
    assert whole["markout_bps"] == pytest.approx((up - 3 * down) / 4)
    assert (whole["trades"], whole["volume"], whole["blocks"], whole["bse_bps"]) == (2, 4.0, 1, None)
    assert whole["ts_known"].timestamp() == START // SECOND + 2
    # After 10 s only that of 70 meets a quote that is none; the tape ends just there.
    assert row_of(table, "all", "sell", "10s")["trades"] == 0
    assert row_of(table, "all", "sell", "10s")["markout_bps"] is None
    assert row_of(table, "all", "sell", "10s")["ts_known"] is None
    assert row_of(table, "all", "buy", "10s")["markout_bps"] == pytest.approx(up)


def test_order_of_rows_and_types() -> None:
    table = markouts(trades_of([]), quotes_of([]), horizons=["5s", "1s"])
    assert table.select("group", "side", "horizon").rows() == [
        ("all", side, horizon) for side in ("all", "buy", "sell") for horizon in ("5s", "1s")
    ]
    assert table.schema["ts_known"] == pl.Datetime("ns", "UTC")
    assert table["markout_bps"].null_count() == table["bse_bps"].null_count() == table["ts_known"].null_count() == 6
    assert table["trades"].to_list() == table["blocks"].to_list() == [0] * 6


def test_default_horizons() -> None:
    table = markouts(trades_of([]), quotes_of([]))
    assert table["horizon"].unique(maintain_order=True).to_list() == ["1s", "5s", "30s", "60s", "300s"]


def test_groups() -> None:
    trades: list[Marked] = [(k, 100.0, 1.0, 1) for k in range(4)]
    quotes: list[Quote] = [(k, 100.0 + k, 100.0 + k) for k in range(6)]
    named = trades_of(trades).with_columns(kind=pl.Series(["b", "a", None, "b"]))
    by_column = markouts(named, quotes_of(quotes), horizons=["1s"], by="kind")
    assert_frame_equal(by_column, markouts(trades_of(trades), quotes_of(quotes), horizons=["1s"], by=named["kind"]))
    assert by_column["group"].unique(maintain_order=True).to_list() == ["all", "a", "b"]
    counts = by_column.filter(side="all").select("group", "trades").rows()
    assert counts == [("all", 4), ("a", 1), ("b", 2)]
    assert row_of(by_column, "a", "buy", "1s")["markout_bps"] == pytest.approx(1e4 * np.log(1.02))


def test_forced_against_other() -> None:
    trades: list[Marked] = [(1, 100.0, 2.0, -1), (3, 100.0, 4.0, -1), (5, 100.0, 1.0, 1)]
    quotes: list[Quote] = [(2, 99.0, 99.0), (4, 101.0, 101.0), (6, 102.0, 102.0)]
    feed = trades_of([(1, 100.0, 2.0, -1)])
    table = markouts(trades_of(trades), quotes_of(quotes), horizons=["1s"], liquidations=feed)
    assert row_of(table, "forced", "all", "1s")["markout_bps"] == pytest.approx(-1e4 * np.log(0.99))
    assert row_of(table, "forced", "buy", "1s")["trades"] == 0
    assert row_of(table, "other", "sell", "1s")["markout_bps"] == pytest.approx(-1e4 * np.log(1.01))
    assert row_of(table, "other", "all", "1s")["trades"] == 2


PRICE = st.integers(95, 105).map(float)
QUOTED = st.one_of(PRICE, PRICE, PRICE, st.sampled_from([NAN, 0.0]))


@st.composite
def tapes(draw: st.DrawFn) -> tuple[list[Marked], list[Quote]]:
    n, m = draw(st.integers(0, 10)), draw(st.integers(0, 10))
    times = sorted(draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)))
    quote_times = sorted(draw(st.lists(st.integers(0, 12), min_size=m, max_size=m)))
    sizes = st.sampled_from([1.0, 2.0, 0.5, 0.0])
    trades = [(ts, draw(PRICE), draw(sizes), draw(st.sampled_from([1, -1, 0]))) for ts in times]
    return trades, [(ts, draw(QUOTED), draw(QUOTED)) for ts in quote_times]


@settings(max_examples=40, deadline=None)
@given(tapes())
def test_equals_the_plain_reference(tape: tuple[list[Marked], list[Quote]]) -> None:
    trades, quotes = tape
    table = markouts(trades_of(trades), quotes_of(quotes), horizons=["1s", "3s"], block="4s")
    table = table.with_columns(pl.col("ts_known").dt.epoch("ns"))
    end = START + SECOND * max((row[0] for row in [*trades, *quotes]), default=0)
    in_ns = [(START + ts * SECOND, bid, ask) for ts, bid, ask in quotes]
    for side, signs in (("all", (1, -1)), ("buy", (1,)), ("sell", (-1,))):
        chosen = [(START + ts * SECOND, *rest) for ts, *rest in trades if rest[2] in signs]
        for name, length in (("1s", SECOND), ("3s", 3 * SECOND)):
            expected = mean_markout(chosen, in_ns, length, end, 4 * SECOND)  # type: ignore[arg-type]
            row = row_of(table, "all", side, name)
            for column, value in expected.items():
                exact = value is None or column == "ts_known"
                assert row[column] == (value if exact else pytest.approx(value, rel=1e-9, abs=1e-6)), column


@settings(max_examples=40, deadline=None)
@given(tapes())
def test_mirrored_tape(tape: tuple[list[Marked], list[Quote]]) -> None:
    """Buys for sells, every price for its inverse: takers gained as much."""
    trades = [(ts, 1e4 / price, size, -sign) for ts, price, size, sign in tape[0]]
    quotes = [(ts, 1e4 / ask if ask else NAN, 1e4 / bid if bid else NAN) for ts, bid, ask in tape[1]]
    # The mid is no logarithm: only where bid and ask are one price is its mirror image its inverse.
    locked = [(ts, bid, bid) for ts, bid, _ in tape[1]]
    mirrored = [(ts, ask, ask) for ts, _, ask in quotes]
    one = markouts(trades_of(tape[0]), quotes_of(locked), horizons=["2s"], block="3s")
    other = markouts(trades_of(trades), quotes_of(mirrored), horizons=["2s"], block="3s")
    swapped = other.with_columns(pl.col("side").replace({"buy": "sell", "sell": "buy"})).sort("side")
    assert_frame_equal(one.sort("side"), swapped, rel_tol=1e-9, abs_tol=1e-6)


@settings(max_examples=40, deadline=None)
@given(tapes(), st.integers(0, 12))
def test_what_was_known_then(tape: tuple[list[Marked], list[Quote]], cut: int) -> None:
    """A tape cut short gives the means of the trades whose horizon it still reaches."""
    trades = [trade for trade in tape[0] if trade[0] <= cut]
    quotes = [quote for quote in tape[1] if quote[0] <= cut]
    end = max((row[0] for row in [*trades, *quotes]), default=0)
    short = markouts(trades_of(trades), quotes_of(quotes), horizons=["2s"], block="3s")
    reached = markouts(
        trades_of([trade for trade in tape[0] if trade[0] + 2 <= end]), quotes_of(tape[1]), horizons=["2s"], block="3s"
    )
    tail = max((row[0] for row in tape[1]), default=0)
    if tail >= end:  # else the tape of all quotes ends earlier than the trades that were left out
        assert_frame_equal(short, reached)
    known = short["ts_known"].drop_nulls().dt.epoch("ns")
    assert (known <= START + end * SECOND).all()


def test_errors_are_those_of_a_regression_clustered_by_block() -> None:
    tables = simulated()
    trades, quotes = tables["trades"], tables["quotes"]
    row = row_of(markouts(trades, quotes, horizons=["5s"], block="20s"), "all", "all", "5s")
    later = (pl.col("ts") + pl.duration(seconds=5)).cast(pl.Datetime("ns", "UTC"))
    known = trades.with_columns(at=later).filter(
        pl.col("at") <= max(trades["ts"][-1], quotes["ts"][-1])  # type: ignore[type-var]
    )
    mids = quotes.select(at=pl.col("ts"), mid=(pl.col("bid") + pl.col("ask")) / 2)
    gains = known.join_asof(mids, on="at").with_columns(
        gain=1e4 * pl.col("side") * (pl.col("mid") / pl.col("price")).log(), block=pl.col("ts").dt.epoch("s") // 20
    )
    model = sm.WLS(gains["gain"].to_numpy(), np.ones(gains.height), weights=gains["size"].to_numpy())
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": gains["block"].to_numpy()})
    assert row["trades"] == gains.height
    assert row["markout_bps"] == pytest.approx(fit.params[0], rel=1e-9)
    assert row["bse_bps"] == pytest.approx(fit.bse[0], rel=1e-9)


def test_blocks_of_time_follow_the_horizon() -> None:
    times = range(0, 4000, 7)
    trades: list[Marked] = [(t, 100.0, 1.0, 1) for t in times]
    quotes: list[Quote] = [(t, 100.0, 100.0) for t in range(0, 6000, 50)]
    table = markouts(trades_of(trades), quotes_of(quotes), horizons=["1s", "60s"]).filter(side="all")
    assert table["blocks"].to_list() == [
        len({(START // SECOND + t) // 60 for t in times}),
        len({(START // SECOND + t) // 600 for t in times}),
    ]


def test_direction_by_rule() -> None:
    tables = simulated()
    unsigned = tables["trades"].drop("side")
    assert markouts(unsigned, tables["quotes"])["trades"].sum() == 0
    by_rule = markouts(unsigned, tables["quotes"], direction="quote")
    flagged = markouts(tables["trades"], tables["quotes"])
    assert row_of(by_rule, "all", "all", "1s")["trades"] > 0.9 * row_of(flagged, "all", "all", "1s")["trades"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "guess"}, "no such direction"),
        ({"horizons": ["5 minutes"]}, "horizon is not a length of time"),
        ({"horizons": "1s"}, "horizon"),
        ({"block": "long"}, "block is not a length of time"),
        ({"by": ["a"]}, "one label per trade"),
        ({"by": ["all", "all"]}, "may not be called so"),
        ({"by": ["a", "b"], "liquidations": pl.DataFrame()}, "given twice"),
    ],
)
def test_wrong_parameters(arguments: dict[str, Any], message: str) -> None:
    trades: list[Marked] = [(0, 100.0, 1.0, 1), (1, 100.0, 1.0, 1)]
    with pytest.raises(ParameterError, match=message):
        markouts(trades_of(trades), quotes_of([(0, 99.0, 101.0)]), **arguments)


def test_wrong_tables() -> None:
    trades = trades_of([(0, 100.0, 1.0, 1), (1, 100.0, 1.0, 1)])
    with pytest.raises(DataError, match="time goes back"):
        markouts(trades[::-1], quotes_of([]))
    with pytest.raises(DataError, match="column is missing"):
        markouts(trades, quotes_of([]), by="kind")


def test_simulated_cascade_is_toxic_and_forced_flow_is_paid_for() -> None:
    """In a flush the forced order pays on its way down: what it sold stands lower at first, and higher in the end."""
    tables = simulated()
    table = markouts(tables["trades"], tables["quotes"], horizons=["1s", "60s"], liquidations=tables["liquidations"])
    forced = row_of(table, "forced", "all", "1s")
    assert forced["trades"] > 50
    assert forced["volume"] + row_of(table, "other", "all", "1s")["volume"] == pytest.approx(
        row_of(table, "all", "all", "1s")["volume"]
    )
    assert row_of(table, "forced", "all", "60s")["markout_bps"] < forced["markout_bps"]


def test_real_recording(shared_data: Path) -> None:
    """A calm hour: takers pay at first about what they lost to the half spread, and the mean of one side is not the
    other's; every trade that the recording reaches counts."""
    path = shared_data / "hftbacktest-raw" / "usdm_btcusdt_20240808.gz"
    trades, quotes = read_trades(path), read_quotes(path)
    table = markouts(trades, quotes, horizons=["1s", "5s"])
    whole = row_of(table, "all", "all", "1s")
    assert whole["trades"] > 0.95 * trades.height
    parts = [row_of(table, "all", side, "1s") for side in ("buy", "sell")]
    assert sum(part["volume"] for part in parts) == pytest.approx(whole["volume"])
    mean = sum(part["volume"] * part["markout_bps"] for part in parts) / whole["volume"]
    assert whole["markout_bps"] == pytest.approx(mean)
    assert abs(whole["markout_bps"]) < 5.0
