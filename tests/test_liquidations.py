"""Which trades a liquidation feed accounts for: by hand, as the engine does it, and on real tapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feeding import START, simulated
from hypothesis import given
from hypothesis import strategies as st

from toxmid.engine import Engine
from toxmid.errors import DataError, ParameterError
from toxmid.instrument import Instrument
from toxmid.liquidations import match_liquidations
from toxmid.readers import read_liquidations, read_trades

MS = 10**6
Row = tuple[int, float, int]  # ms, size, side


def rows_of(rows: list[Row]) -> pl.DataFrame:
    table = [(START + ms * MS, 100.0, size, side) for ms, size, side in rows]
    schema = {"ts": pl.Int64, "price": pl.Float64, "size": pl.Float64, "side": pl.Int8}
    return pl.DataFrame(table, schema=schema, orient="row")


def matched(trades: list[Row], feed: list[Row], **options: object) -> list[float | None]:
    return match_liquidations(rows_of(trades), rows_of(feed), **options).to_list()  # type: ignore[arg-type]


def test_an_exact_run_goes_before_what_traded_last() -> None:
    trades = [(0, 3.0, -1), (10, 2.0, -1), (20, 4.0, -1)]
    assert matched(trades, [(30, 5.0, -1)]) == [1.0, 1.0, 0.0]
    assert matched(trades, [(30, 4.5, -1)]) == [0.0, 0.25, 1.0]


def test_prints_of_one_moment_are_one_order() -> None:
    trades = [(0, 1.0, -1), (0, 2.0, -1), (0, 1.0, 1), (5, 9.0, 1)]
    assert matched(trades, [(9, 3.0, -1)]) == [1.0, 1.0, 0.0, 0.0]
    assert matched(trades, [(9, 1.5, -1)]) == [0.5, 0.5, 0.0, 0.0]


def test_window_and_grace() -> None:
    trades = [(0, 1.0, -1), (2000, 1.0, -1), (2300, 1.0, -1)]
    assert matched(trades, [(1400, 2.0, -1)]) == [1.0, 0.0, 0.0]
    assert matched(trades, [(1400, 2.0, -1)], window="1s") == [0.0, 0.0, 0.0]
    assert matched(trades, [(1900, 2.0, -1)]) == [0.0, 1.0, 0.0]
    assert matched(trades, [(1900, 2.0, -1)], grace="500ms") == [0.0, 1.0, 1.0]


def test_the_other_side_and_unknown_sides_are_nobodys() -> None:
    assert matched([(0, 1.0, 1), (1, 1.0, 0), (2, 1.0, -1)], [(3, 5.0, -1)]) == [0.0, None, 1.0]
    assert matched([(0, 1.0, -1)], [(3, 5.0, 0), (4, float("nan"), -1)]) == [0.0]
    assert matched([], [(3, 5.0, -1)]) == []
    assert matched([(0, 1.0, -1)], []) == [0.0]


def test_contracts_are_compared_as_contracts() -> None:
    """Ten-dollar contracts: the same number of them is another amount of coin at another price."""
    trades = pl.DataFrame(
        {"ts": [START, START + MS], "price": [20.0, 16.0], "size": [1.5, 2.5], "side": [-1, -1], "lots": [3, 4]}
    )
    feed = pl.DataFrame({"ts": [START + 2 * MS], "price": [12.0], "size": [2.5], "side": [-1]})  # three contracts
    assert match_liquidations(trades, feed).to_list() == [1.0, 0.0]
    contract = Instrument(inverse=True, contract_value=10.0)
    assert match_liquidations(trades.drop("lots"), feed, instrument=contract).to_list() == [1.0, 0.0]


@given(
    st.lists(st.tuples(st.integers(0, 4000), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([1, -1, 0]))),
    st.lists(st.tuples(st.integers(0, 4000), st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([1, -1])), max_size=8),
)
def test_no_more_is_claimed_than_was_recorded(trades: list[Row], feed: list[Row]) -> None:
    trades, feed = sorted(trades, key=lambda row: row[0]), sorted(feed, key=lambda row: row[0])
    share = np.array([value or 0.0 for value in matched(trades, feed)])
    assert ((share >= 0.0) & (share <= 1.0)).all()
    for side in (1, -1):
        claimed = sum(s * size for s, (_, size, sign) in zip(share, trades, strict=True) if sign == side)
        assert claimed <= sum(size for _, size, sign in feed if sign == side) + 1e-5


def test_more_orders_than_are_remembered() -> None:
    """Claims of orders long gone are still there when the last has come."""
    trades = [(10 * k, 1.0, -1) for k in range(10_000)]
    feed = [(10 * k + 1, 1.0, -1) for k in range(0, 10_000, 10)]
    assert matched(trades, feed) == [1.0 if k % 10 == 0 else 0.0 for k in range(10_000)]


def test_equals_the_engine_on_a_simulated_cascade() -> None:
    """Both walk the same steps: the engine's unmatched records, and its toxic volume, are the function's."""
    tables = simulated()
    trades, feed = tables["trades"], tables["liquidations"]
    share = match_liquidations(trades, feed, instrument=Instrument(lot=0.001))
    engine = Engine(instrument=Instrument(lot=0.001))
    engine.feed_without_prints()
    engine.feed(trades=trades, liquidations=feed)
    engine.finish()
    recorded = float(feed["size"].sum())
    claimed = float((share * trades["size"]).sum())
    assert claimed <= recorded + 1e-6
    missed = engine.tally()["liquidations_unmatched"]
    assert (recorded - claimed < 1e-6) == (missed == 0)
    assert claimed > 0.9 * recorded


@pytest.mark.parametrize("option", ["window", "grace"])
def test_wrong_parameters(option: str) -> None:
    with pytest.raises(ParameterError, match=option):
        matched([], [], **{option: "soon"})


def test_time_that_goes_back() -> None:
    good = rows_of([(0, 1.0, -1), (1, 1.0, -1)])
    with pytest.raises(DataError, match="time goes back in the liquidations"):
        match_liquidations(good, good[::-1])


def test_real_feed(shared_data: Path) -> None:
    """A recorded feed beside the large trades of its market: each record follows a trade of its side."""
    folder, span = shared_data / "recorder", {"start": "2025-01-27T16:55", "end": "2025-01-27T17:20"}
    trades = read_trades(folder / "binance_trades.csv", instrument=Instrument(symbol="BTCUSDT"), **span)
    feed = read_liquidations(folder / "binance.csv", instrument=Instrument(symbol="BTCUSDT"), **span)
    share = match_liquidations(trades, feed)
    claimed = share * trades["size"]
    assert feed.height == 18
    assert float(claimed.sum()) == pytest.approx(float(feed["size"].sum()), abs=0.02)
    near = feed.select(at="ts", by="side").sort("at")
    forced = trades.with_columns(forced=share, at=pl.col("ts"), by=pl.col("side")).filter(pl.col("forced") > 0)
    later = forced.join_asof(near, on="at", by="by", strategy="forward", tolerance="1500ms", coalesce=False)
    assert later["at_right"].null_count() == 0
