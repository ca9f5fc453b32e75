"""Spread components: models recovered, normal equations in loops, errors that are the spread over samples, a day."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from feeding import SECOND, START
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import components as reference

from toxmid.components import SpreadComponents, glosten_harris, mrr
from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.readers import read_trades

BOTH: list[Callable[..., SpreadComponents]] = [glosten_harris, mrr]


def market(
    count: int = 5000,
    *,
    phi: float = 2.0,
    theta: float = 1.5,
    size_permanent: float = 0.0,
    size_transitory: float = 0.0,
    flip: float = 0.3,
    noise: float = 1.0,
    seed: int = 0,
) -> pl.DataFrame:
    """Orders whose surprise moves the efficient price by theta, at a half spread of phi, with parts by size."""
    rng = np.random.default_rng(seed)
    side, size = np.cumprod(np.where(rng.random(count) < flip, -1, 1)), rng.exponential(size=count)
    surprise = side - (1 - 2 * flip) * np.append(0, side[:-1])
    moves = theta * surprise + size_permanent * side * size + noise * rng.normal(size=count)
    paid = np.cumsum(moves) + phi * side + size_transitory * side * size
    return pl.DataFrame(
        {
            "ts": START + SECOND * np.arange(count),
            "price": 100.0 * np.exp(1e-4 * paid),
            "size": size,
            "side": side.astype(np.int8),
        }
    )


def rows_of(tape: pl.DataFrame) -> list[reference.Order]:
    return tape.select("ts", "price", "size", "side").rows()  # type: ignore[return-value]


def test_mrr_recovers_what_it_was_given() -> None:
    result = mrr(market())
    for name, value in {"const": 0.0, "phi": 2.0, "theta": 1.5, "rho": 0.4}.items():
        assert abs(result.params[name] - value) < 4 * result.bse[name] < 0.5
        low, high = result.conf_int(0.0001).loc[name]
        assert low < value < high
    assert (result.permanent, result.transitory) == (result.params["theta"], result.params["phi"])
    assert result.permanent_bse == pytest.approx(result.bse["theta"])
    assert abs(result.share - 1.5 / 3.5) < 4 * result.share_bse < 0.1


def test_glosten_harris_recovers_what_it_was_given() -> None:
    result = glosten_harris(market(flip=0.5, size_permanent=0.5, size_transitory=0.25))
    for name, value in {"c0": 2.0, "c1": 0.25, "z0": 1.5, "z1": 0.5}.items():
        assert abs(result.params[name] - value) < 4 * result.bse[name] < 0.5
    assert abs(result.permanent - 2.0) < 4 * result.permanent_bse < 0.5
    assert abs(result.transitory - 2.25) < 4 * result.transitory_bse < 0.5
    assert result.share == pytest.approx(result.permanent / (result.permanent + result.transitory))


@pytest.mark.parametrize("model", BOTH)
def test_errors_are_the_spread_over_samples(model: Callable[..., SpreadComponents]) -> None:
    samples = [model(market(800, seed=seed)) for seed in range(60)]
    values = np.array([sample.params.to_numpy() for sample in samples])
    shown = np.array([sample.bse.to_numpy() for sample in samples]).mean(axis=0)
    np.testing.assert_allclose(shown, values.std(axis=0), rtol=0.35)
    shares = [sample.share for sample in samples]
    assert np.mean([sample.share_bse for sample in samples]) == pytest.approx(np.std(shares), rel=0.35)


ORDERS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 5, 700]), st.integers(95, 105).map(float), st.sampled_from([0.5, 1.0, 2.0, 5.0]),
        st.sampled_from([1, -1, 1, -1, 0]),
    ),
    min_size=90, max_size=110,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(ORDERS, st.sampled_from([0, 3]))
def test_equal_the_plain_reference(rows: list[tuple[int, float, float, int]], lags: int) -> None:
    """Prints of one time, unknown sides, silences: the same pairs, the same sums."""
    ts = np.cumsum([row[0] for row in rows])
    trades = [(START + SECOND * int(t), *row[1:]) for t, row in zip(ts, rows, strict=True)]
    tape = pl.DataFrame(trades, schema=["ts", "price", "size", "side"], orient="row")
    for model, plain in ((glosten_harris, reference.glosten_harris), (mrr, reference.mrr)):
        try:
            result = model(tape, lags=lags)
        except NotEnoughDataError:
            assert len(reference.pairs_of(trades, 600 * SECOND)) < 40
            continue
        estimate, covariance = plain(trades, 600 * SECOND, lags)
        assert result.observations == len(reference.pairs_of(trades, 600 * SECOND))
        np.testing.assert_allclose(result.params, estimate, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(result.cov_params(), covariance, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", BOTH)
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_mirror_symmetry(model: Callable[..., SpreadComponents], seed: int) -> None:
    """Buys for sells and prices for their inverse: the same parts. The constant turns its sign."""
    tape = market(200, seed=seed)
    other = model(tape.with_columns(price=1e4 / pl.col("price"), side=-pl.col("side")))
    one = model(tape)
    np.testing.assert_allclose(other.params.drop("const"), one.params.drop("const"), rtol=1e-6, atol=1e-8)
    assert other.params["const"] == pytest.approx(-one.params["const"], abs=1e-8)
    np.testing.assert_allclose(other.bse, one.bse, rtol=1e-6)


@pytest.mark.parametrize("model", BOTH)
def test_an_order_in_many_prints_is_one_order(model: Callable[..., SpreadComponents]) -> None:
    tape = market(300)
    halves = pl.concat([tape, tape]).sort("ts", maintain_order=True).with_columns(pl.col("size") / 2)
    assert model(halves).params.to_numpy() == pytest.approx(model(tape).params.to_numpy(), rel=1e-9)


@pytest.mark.parametrize("model", BOTH)
def test_prints_that_arrive_apart_are_one_order_where_the_exchange_says_so(
    model: Callable[..., SpreadComponents],
) -> None:
    tape = market(300).with_columns(ts_event="ts")
    second = tape.with_columns(pl.col("ts") + 1000, pl.col("price") * 1.0001)
    prints = pl.concat([tape, second]).sort("ts").with_columns(pl.col("size") / 2)
    result = model(prints)
    assert result.observations == 299
    assert model(prints.drop("ts_event")).observations == 599
    np.testing.assert_allclose(result.params, model(tape).params, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("model", BOTH)
def test_what_cannot_be_estimated(model: Callable[..., SpreadComponents]) -> None:
    tape = market(300)
    with pytest.raises(NotEnoughDataError, match="too few pairs"):
        model(tape[:20])
    with pytest.raises(NotEnoughDataError, match="too few pairs"):
        model(tape[:0])
    with pytest.raises(NotEnoughDataError, match="too few pairs"):
        model(tape.drop("side"))
    with pytest.raises(NotEnoughDataError, match="too few pairs"):
        model(tape, gap="1s")
    with pytest.raises(NotEnoughDataError, match="apart"):
        model(tape.with_columns(side=pl.lit(1)))
    with pytest.raises(ParameterError, match="lags"):
        model(tape, lags=-1)
    with pytest.raises(ParameterError, match="gap"):
        model(tape, gap="long")
    with pytest.raises(DataError, match="time goes back"):
        model(tape[::-1])


def test_sizes_that_are_all_equal_tell_nothing_of_size() -> None:
    tape = market(300).with_columns(size=pl.lit(1.0))
    with pytest.raises(NotEnoughDataError, match="apart"):
        glosten_harris(tape)
    assert mrr(tape).observations == 299


def test_result_is_a_value_that_prints_itself() -> None:
    result = mrr(market(500))
    text = str(result.summary())
    for words in ("Madhavan", "phi", "theta", "permanent share", "HAC lags", "[0.025"):
        assert words in text
    copy = pickle.loads(pickle.dumps(result))
    assert copy.params.equals(result.params)
    assert copy.tvalues.equals(result.params / result.bse)
    assert ((result.pvalues >= 0) & (result.pvalues <= 1)).all()
    with pytest.raises(ParameterError, match="alpha"):
        result.conf_int(1.0)
    with pytest.raises(AttributeError):
        result.share = 0.5  # type: ignore[misc]


@pytest.mark.parametrize("coin", ["AVAX", "BCH"])
def test_real_day(shared_data: Path, coin: str) -> None:
    """Takers pay a half spread and move the price; both models see the same half spread, within a third of it."""
    name = f"binance-delivery_trades_2025-10-10_{coin}USD_PERP.csv.gz"
    calm: dict[str, Any] = {"start": "2025-10-10T12:00", "end": "2025-10-10T18:00"}
    trades = read_trades(shared_data / "crash-2025-10-10" / name, **calm)
    by_side, by_size = mrr(trades), glosten_harris(trades)
    assert 0.0 < by_side.params["rho"] < 1.0
    assert by_side.permanent > 3 * by_side.permanent_bse
    assert 0.0 < by_side.permanent + by_side.transitory < 20.0
    half = [result.permanent + result.transitory for result in (by_side, by_size)]
    assert half[0] == pytest.approx(half[1], rel=1 / 3)
