"""Other venues of the simulated market: what they share with it, and the mark price that is made of them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from toxmid.draws import Draw
from toxmid.schema import canonical
from toxmid.simulate import Simulation, simulate


def displacement(market: Simulation, prices: pl.DataFrame, column: str = "price") -> np.ndarray:
    """Bps over the hidden mid at the end of every step, without what is usual before anything happens."""
    joined = market.truth.join_asof(prices.select("ts", other=column), on="ts")
    gap = (1e4 * (joined["other"] / joined["mid"]).log()).fill_null(np.nan).to_numpy()
    return gap - np.nanmedian(gap[: gap.size // 3])


@pytest.fixture(scope="module")
def market() -> Simulation:
    return simulate("flush", seed=12)


def test_other_venues_are_canonical_and_carry_their_share_of_the_displacement(market: Simulation) -> None:
    toxic = market.hidden["toxicity"].to_numpy() > 0.5
    assert list(market.references) == ["clean", "mixed", "toxic"]
    for trades in market.references.values():
        table = canonical(trades, "trades")
        assert table["ts"].is_sorted()
        assert table["ts"].n_unique() == table.height > 300
        assert np.isfinite(table["price"].to_numpy()).all()
        assert (table["size"] > 0).all()
    torn = {name: displacement(market, table)[toxic] for name, table in market.references.items()}
    size = {name: np.sqrt(np.mean(gap**2)) for name, gap in torn.items()}
    own = np.sqrt(np.mean(displacement(market, market.trades)[toxic] ** 2))
    assert size["clean"] < size["mixed"] < size["toxic"] < own
    assert size["toxic"] > 0.3 * own


def test_mark_is_the_middle_of_index_moving_basis_and_last_price(market: Simulation) -> None:
    mark = canonical(market.mark, "mark")
    assert mark.columns == ["ts", "ts_event", "price", "index"]
    assert (mark["ts"].diff().drop_nulls() == dt.timedelta(seconds=1)).all()
    own = market.quotes.select("ts", mid=(pl.col("bid") + pl.col("ask")) / 2)
    rows = mark.join_asof(own, on="ts").join_asof(market.trades.select("ts", last="price"), on="ts")
    basis = (rows["mid"] - rows["index"]).rolling_mean(30, min_samples=1)
    paid = rows["index"].to_numpy() * (1.0 + 1e-4 * Draw(12, "mark").between("funding", -1.0, 1.0))
    middle = np.sort(np.stack([paid, (rows["index"] + basis).to_numpy(), rows["last"].to_numpy()]), axis=0)[1]
    np.testing.assert_allclose(rows["price"], middle, rtol=1e-9)
    # Made of the own trades as well, it is no witness: it is torn with them, and less than they are.
    toxic = market.hidden["toxicity"].to_numpy() > 0.5
    torn, index = (np.sqrt(np.mean(displacement(market, mark, name)[toxic] ** 2)) for name in ("price", "index"))
    assert index < torn < np.sqrt(np.mean(displacement(market, market.trades)[toxic] ** 2))


def test_other_venues_of_a_mirrored_market_are_mirrored() -> None:
    one, two = (simulate("flush", seed=5, duration=900.0, mirror=mirror) for mirror in (False, True))
    for name, trades in one.references.items():
        other = two.references[name]
        assert trades.select("ts", "size").equals(other.select("ts", "size"))
        assert (trades["side"] == -other["side"]).all()
        total = (trades["price"] * other["price"]).log() - 2 * np.log(1e5)
        assert total.abs().max() < 3e-6  # two ticks


def test_other_venues_have_random_numbers_of_their_own() -> None:
    """Asked for or not, the tape is the same, and so are the venues of another scenario while nothing happens."""
    calm, news = (simulate(scenario, seed=7, duration=600.0) for scenario in ("calm", "news"))
    before = calm.trades
    assert calm.mark.height > 500
    assert simulate("calm", seed=7, duration=600.0).trades.equals(before)
    quiet = pl.col("ts").to_physical() < news.start + int(news.shocks[0].start * 1e9)
    for name, trades in calm.references.items():
        other = news.references[name]
        assert trades.filter(quiet).equals(other.filter(quiet))
