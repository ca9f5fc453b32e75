"""Hasbrouck's autoregression: a known system recovered, the response by iteration, errors, mirror, real tape."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feeding import SECOND, START

from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.hasbrouck import hasbrouck
from toxmid.readers import read_quotes, read_trades

Tapes = tuple[pl.DataFrame, pl.DataFrame]


def market(count: int = 6000, seed: int = 0, noise: float = 1.0) -> Tapes:
    """Sides with memory that shy away from the last revision; each moves the mid, the next takes some of it back."""
    rng = np.random.default_rng(seed)
    side, revision = np.ones(count), np.zeros(count)
    for t in range(1, count):
        side[t] = 1 if rng.random() < 0.5 + 0.15 * side[t - 1] - 0.01 * np.clip(revision[t - 1], -20, 20) else -1
        revision[t] = 1.5 * side[t] - 0.4 * side[t - 1] + 0.1 * revision[t - 1] + noise * rng.normal()
    mid = 100.0 * np.exp(1e-4 * np.cumsum(revision))
    ts = START + SECOND * np.arange(count)
    trades = pl.DataFrame({"ts": ts, "price": mid, "size": 1.0, "side": side.astype(np.int8)})
    return trades, pl.DataFrame({"ts": ts, "bid": mid, "ask": mid})


def true_response() -> float:
    """The system of `market`, iterated: 2 x (0.15, -0.01) are the coefficients of a side that is +1 or -1."""
    side, revision, total = 1.0, 1.5, 1.5
    for _ in range(200):
        side, before = 0.3 * side - 0.02 * revision, side
        revision = 1.5 * side - 0.4 * before + 0.1 * revision
        total += revision
    return total


def test_recovers_what_it_was_given() -> None:
    result = hasbrouck(*market(), order=3)
    assert abs(result.immediate - 1.5) < 4 * result.bse["immediate"] < 0.2
    assert abs(result.long_run - true_response()) < 4 * result.bse["long_run"] < 0.4
    assert 0.3 < result.share < 0.9
    assert hasbrouck(*market(noise=5.0), order=3).share < 0.3


def test_response_is_what_the_fitted_system_comes_to() -> None:
    """Iterate the two equations with the fitted coefficients: the sum of revisions goes where the formula says."""
    result = hasbrouck(*market(2000), order=2)
    r, x = result.revisions.params, result.sides.params
    sides, revisions = [1.0, 0.0], [float(r[3]), 0.0]
    total = revisions[0]
    for _ in range(500):
        side = x[1] * revisions[0] + x[2] * revisions[1] + x[3] * sides[0] + x[4] * sides[1]
        revision = r[1] * revisions[0] + r[2] * revisions[1] + r[3] * side + r[4] * sides[0] + r[5] * sides[1]
        sides, revisions = [side, sides[0]], [revision, revisions[0]]
        total += revision
    assert result.long_run == pytest.approx(total, rel=1e-9)


def test_errors_are_the_spread_over_samples() -> None:
    samples = [hasbrouck(*market(800, seed), order=2) for seed in range(30)]
    for name in ("immediate", "long_run"):
        spread = np.std([sample.params[name] for sample in samples])
        assert np.mean([sample.bse[name] for sample in samples]) == pytest.approx(spread, rel=0.45)


def test_mirror_symmetry() -> None:
    trades, quotes = market(1500)
    mirrored = trades.with_columns(price=1e4 / pl.col("price"), side=-pl.col("side"))
    other = hasbrouck(mirrored, quotes.select("ts", bid=1e4 / pl.col("ask"), ask=1e4 / pl.col("bid")))
    one = hasbrouck(trades, quotes)
    np.testing.assert_allclose(other.params, one.params, rtol=1e-6)
    np.testing.assert_allclose(other.cov_params(), one.cov_params(), rtol=1e-5)
    assert other.share == pytest.approx(one.share)


def test_orders_without_a_side_or_a_mid_take_their_lags_with_them() -> None:
    trades, quotes = market(1000)
    assert hasbrouck(trades, quotes, order=3).observations == 1000 - 3 - 1 - 1  # no quote before the first, none after
    unknown = trades.with_columns(side=pl.when(pl.int_range(pl.len()) == 500).then(0).otherwise("side"))
    assert hasbrouck(unknown, quotes, order=3).observations == 995 - 4
    crossed = quotes.with_columns(bid=pl.when(pl.int_range(pl.len()) == 500).then(1e6).otherwise("bid"))
    assert hasbrouck(trades, crossed, order=3).observations == 995 - 5
    with pytest.raises(NotEnoughDataError, match="too few"):
        hasbrouck(trades, quotes, gap="1s")


def test_what_cannot_be_estimated() -> None:
    trades, quotes = market(300)
    with pytest.raises(NotEnoughDataError, match="too few"):
        hasbrouck(trades[:50], quotes)
    with pytest.raises(NotEnoughDataError, match="too few"):
        hasbrouck(trades[:0], quotes[:0])
    with pytest.raises(NotEnoughDataError, match="apart"):
        hasbrouck(trades.with_columns(side=pl.lit(1)), quotes)
    for order in (0, 1.5, True, 1000):
        with pytest.raises(ParameterError, match="order"):
            hasbrouck(trades, quotes, order=order)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="time goes back"):
        hasbrouck(trades[::-1], quotes)


def test_result_prints_itself() -> None:
    result = hasbrouck(*market(500))
    for words in ("Hasbrouck", "long_run", "comes with taker orders"):
        assert words in str(result.summary())
    assert pickle.loads(pickle.dumps(result)).params.equals(result.params)


def test_real_recording(shared_data: Path) -> None:
    """Takers move the mid of a real market their way, and more in the end than nothing."""
    path = shared_data / "hftbacktest-raw" / "usdm_btcusdt_20240808.gz"
    result = hasbrouck(read_trades(path), read_quotes(path))
    assert result.observations > 1000
    assert result.immediate > 3 * result.bse["immediate"]
    assert result.long_run > 3 * result.bse["long_run"]
    assert 0.0 < result.share < 1.0
