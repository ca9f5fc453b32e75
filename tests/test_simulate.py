"""The simulated market: what must hold of any tape, and the model's equations against a plain second calculation."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from toxmid import _simulate
from toxmid.errors import ParameterError
from toxmid.schema import Kind, canonical
from toxmid.simulate import BOOKS, MAKERS, SCENARIOS, STEP, MarketParams, Shock, Simulation, simulate

TABLES = ("trades", "quotes", "book", "liquidations", "liquidations_throttled", "truth", "labels", "hidden", "episodes")
CANONICAL = {
    "trades": "trades",
    "quotes": "quotes",
    "book": "book",
    "liquidations": "liquidations",
    "liquidations_throttled": "liquidations",
}
SECOND = 10**9


@pytest.fixture(scope="module")
def flush() -> Simulation:
    return simulate("flush", seed=5, duration=900.0)


@pytest.fixture(scope="module")
def calm() -> Simulation:
    return simulate("calm", seed=5, duration=900.0)


def ns(frame: pl.DataFrame, column: str = "ts") -> NDArray[np.int64]:
    return frame[column].to_physical().to_numpy()


def bps(simulation: Simulation, prices: pl.Series) -> NDArray[np.float64]:
    return 1e4 * np.log(prices.to_numpy() / simulation.price)


def orders(simulation: Simulation) -> pl.DataFrame:
    """One row per taker order: its first and last price, its size, its signed size, its sender."""
    joined = simulation.trades.hstack(simulation.labels.drop("id"))
    return joined.group_by("order", maintain_order=True).agg(
        pl.col("ts").first(),
        pl.col("ts").n_unique().alias("times"),
        pl.col("price").first(),
        (pl.col("price") * pl.col("side")).is_sorted().alias("outward"),
        ((pl.col("price") * pl.col("lots")).sum() / pl.col("lots").sum()).alias("average"),
        pl.col("lots").sum(),
        pl.col("side").first(),
        pl.col("agent").first(),
    )


def quoted_mid_at(simulation: Simulation, times: pl.DataFrame) -> NDArray[np.float64]:
    quotes = simulation.quotes.select("ts", mid=(pl.col("bid") * pl.col("ask")).sqrt())
    return bps(simulation, times.select("ts").join_asof(quotes, on="ts")["mid"])


def stress_error(simulation: Simulation) -> NDArray[np.float64]:
    """Quoted minus hidden mid, bps, while forced orders are being sent."""
    cascade = simulation.episodes.row(0, named=True)
    truth = simulation.truth.filter(pl.col("ts").is_between(cascade["ts_start"], cascade["ts_end"]))
    return quoted_mid_at(simulation, truth) - bps(simulation, truth["mid"])


# ------------------------------------------------------------------------------------------ any tape


def assert_tape_is_sound(simulation: Simulation) -> None:
    for name in TABLES:
        frame: pl.DataFrame = getattr(simulation, name)
        assert not any(frame.null_count().row(0)), name
        assert all(frame[c].is_finite().all() for c, dtype in frame.schema.items() if dtype.is_float()), name
        if "ts" in frame.columns:
            assert frame["ts"].is_sorted(), name
    for name, kind in CANONICAL.items():
        frame = getattr(simulation, name)
        assert frame.equals(canonical(frame, kind)), name  # type: ignore[arg-type]
    quotes, trades = simulation.quotes, simulation.trades
    assert (quotes["bid"] < quotes["ask"]).all()
    assert (quotes.select("bid", "bid_size", "ask_size").to_numpy() > 0).all()
    assert (trades.select("price", "size").to_numpy() > 0).all()
    assert set(trades["side"]) <= {-1, 1}
    assert simulation.truth.height == round(simulation.duration / STEP)
    assert (np.diff(ns(simulation.truth)) == SECOND // 10).all()
    assert ns(simulation.truth)[0] == simulation.start + SECOND // 10
    assert simulation.start <= ns(trades).min()
    assert ns(trades).max() < simulation.start + round(simulation.duration * SECOND)


def assert_book_gives_quotes(simulation: Simulation) -> None:
    """Replay the stream into two dictionaries and compare the best levels after every message with the quotes."""
    book = simulation.book
    sides: dict[int, dict[float, float]] = {1: {}, -1: {}}
    best: list[tuple[Any, ...]] = []
    rows = zip(ns(book), book["side"], book["price"], book["size"], book["snapshot"], strict=True)
    for ts, message in itertools.groupby(rows, key=lambda row: row[0]):
        for _, side, price, size, snapshot in message:
            assert snapshot == (ts == simulation.start)
            if size == 0:
                del sides[side][price]  # only what stands can be deleted
            else:
                sides[side][price] = size
        assert len(sides[1]) == len(sides[-1]) == simulation.levels
        bid, ask = max(sides[1]), min(sides[-1])
        quote = (bid, sides[1][bid], ask, sides[-1][ask])
        if not best or best[-1][1:] != quote:
            best.append((ts, *quote))
    quotes = simulation.quotes
    assert best == list(zip(ns(quotes), *(quotes[c] for c in ("bid", "bid_size", "ask", "ask_size")), strict=True))


@settings(max_examples=25, deadline=None)
@given(
    scenario=st.sampled_from(SCENARIOS),
    seed=st.integers(0, 2**64 - 1),
    maker=st.sampled_from(MAKERS),
    book=st.sampled_from(BOOKS),
    mirror=st.booleans(),
    market=st.sampled_from([(100_000.0, 0.1, 0.001), (6.0, 0.001, 1.0), (0.25, 0.0001, 10.0), (2000.0, 0.05, 0.01)]),
    duration=st.sampled_from([0.1, 90.0, 240.5]),
    levels=st.sampled_from([1, 10, 60]),
)
def test_any_tape_is_sound(
    scenario: Any, seed: int, maker: Any, book: Any, mirror: bool, market: Any, duration: float, levels: int
) -> None:
    price, tick, lot = market
    tape = simulate(
        scenario,
        seed=seed,
        maker=maker,
        book=book,
        mirror=mirror,
        price=price,
        tick=tick,
        lot=lot,
        duration=duration,
        levels=levels,
    )
    if tape.trades.is_empty():
        assert duration == 0.1
        return
    assert_tape_is_sound(tape)
    assert_book_gives_quotes(tape)


def test_same_arguments_same_tape(flush: Simulation) -> None:
    again = simulate("flush", seed=5, duration=900.0)
    assert all(getattr(again, name).equals(getattr(flush, name)) for name in TABLES)
    assert not simulate("flush", seed=6, duration=900.0).trades.equals(flush.trades)


def test_a_shorter_tape_with_the_same_shocks_is_the_beginning_of_the_longer_one(flush: Simulation) -> None:
    short = simulate("flush", seed=5, duration=300.0, shocks=flush.shocks)
    assert short.trades.equals(flush.trades.head(short.trades.height))
    assert short.hidden.equals(flush.hidden.head(3000))


def test_a_simulation_survives_pickling(flush: Simulation) -> None:
    assert pickle.loads(pickle.dumps(flush)).trades.equals(flush.trades)


def test_start_moves_every_time_and_nothing_else(flush: Simulation) -> None:
    later = simulate("flush", seed=5, duration=900.0, start="2025-10-10T21:00:00Z")
    assert (ns(later.trades) - ns(flush.trades) == later.start - flush.start).all()
    assert later.trades.drop("ts", "ts_event").equals(flush.trades.drop("ts", "ts_event"))


# ------------------------------------------------------------------------------------------ prints, quotes, feeds


@pytest.mark.parametrize("mirror", [False, True])
def test_orders_hit_the_best_price_and_walk_outward(mirror: bool) -> None:
    tape = simulate("flush", seed=5, duration=900.0, mirror=mirror)
    placed = orders(tape).join_asof(tape.quotes.drop("ts_event"), on="ts", allow_exact_matches=False)
    hit = placed.select(pl.when(pl.col("side") < 0).then("bid").otherwise("ask").alias("price"))["price"]
    assert placed["price"].equals(hit)
    assert placed["outward"].all()
    assert (placed["times"] == 1).all()
    assert tape.trades.height > placed.height  # some orders took several levels


def test_prices_and_sizes_are_the_doubles_nearest_to_their_decimals(flush: Simulation) -> None:
    trades = flush.trades
    assert trades["price"].to_list() == [float(f"{price:.1f}") for price in trades["price"]]
    assert trades["size"].to_list() == [float(f"{lots}e-3") for lots in trades["lots"]]


def test_every_order_is_followed_by_the_quote_it_causes(flush: Simulation) -> None:
    quotes = set(ns(flush.quotes).tolist())
    placed = orders(flush)
    following = placed.join_asof(
        flush.quotes.select("ts", quoted="ts"), on="ts", strategy="forward", allow_exact_matches=False
    )
    gap = ns(following, "quoted") - ns(following)
    assert (gap[:-1] > 0).all()
    assert (gap[:-1] < SECOND // 10).all()
    assert not quotes & set(ns(flush.trades).tolist())


def test_forced_prints_are_the_liquidation_feed(flush: Simulation) -> None:
    forced = orders(flush).filter(pl.col("agent") == "liquidation")
    feed = flush.liquidations
    assert feed.height > 100
    assert forced["ts"].equals(feed["ts"])
    np.testing.assert_array_equal(forced["lots"].to_numpy() / 1000.0, feed["size"])
    np.testing.assert_allclose(forced["average"], feed["price"], rtol=1e-13)
    assert flush.labels["forced"].equals(flush.labels["agent"] == "liquidation", check_names=False)
    assert (feed["side"] == -1).all()


def test_what_is_triggered_is_sold() -> None:
    """Conservation: sold = triggered - backlog, with thresholds laid from the mark at the begin of the slot."""
    news = Shock(0.0, 20.0, news=80.0, ramp=10.0)
    seller = Shock(300.0, 310.0, seller=4000.0, thresholds=(5.0, 10.0, 400.0), positions=(300.0, 400.0, 500.0))
    tape = simulate("flush", seed=5, duration=600.0, shocks=(news, seller))
    mark = bps(tape, tape.hidden["mark"])
    assert mark[2999] < -50.0  # so that a threshold laid from the first price would long have been passed
    fall = mark[2999] - mark[3000:].min()
    shares = [min(1.0, max(0.0, (fall - threshold) / tape.params.cluster_width)) for threshold in seller.thresholds]
    assert shares == [1.0, 1.0, 0.0]
    handled = tape.liquidations["size"].sum() + tape.hidden["backlog"][-1]
    assert handled == pytest.approx(700.0, abs=0.5 * tape.lot * tape.liquidations.height + tape.lot)
    assert ns(tape.liquidations)[0] > tape.start + 310 * SECOND


def test_throttled_feed_shows_the_latest_order_of_each_second_at_its_end(flush: Simulation) -> None:
    feed = flush.liquidations_throttled
    ts, event = ns(feed), ns(feed, "ts_event")
    assert 0 < feed.height < flush.liquidations.height
    assert (ts % SECOND == 0).all()
    assert len(set(ts.tolist())) == feed.height
    assert ((ts - event > 0) & (ts - event <= SECOND)).all()
    latest: dict[int, tuple[float, float]] = {}
    complete = flush.liquidations
    for time, price, size in zip(ns(complete), complete["price"], complete["size"], strict=True):
        latest[time // SECOND] = (price, size)
    assert list(zip(feed["price"], feed["size"], strict=True)) == list(latest.values())


def test_episodes_are_the_forced_orders_less_than_a_minute_apart() -> None:
    tape = simulate("mixed", seed=3, duration=5400.0)
    episodes, feed = tape.episodes, tape.liquidations
    assert episodes["volume"].sum() == pytest.approx(feed["size"].sum())
    assert episodes["orders"].sum() == feed.height
    assert (np.diff(ns(feed)) > 60 * SECOND).sum() == episodes.height - 1
    for row in episodes.iter_rows(named=True):
        inside = feed.filter(pl.col("ts").is_between(row["ts_start"], row["ts_end"]))
        assert inside["size"].sum() == pytest.approx(row["volume"])
        assert inside["price"].min() == row["worst_price"]


# ------------------------------------------------------------------------------------------ scenarios


@pytest.mark.parametrize("scenario", ["calm", "info"])
@pytest.mark.parametrize("seed", range(3))
def test_without_leverage_nothing_is_liquidated(scenario: Any, seed: int) -> None:
    tape = simulate(scenario, seed=seed)
    assert tape.liquidations.is_empty()
    assert tape.liquidations_throttled.is_empty()
    assert tape.episodes.is_empty()
    assert not tape.labels["forced"].any()
    assert not (tape.labels["agent"] == "seller").any()


def test_calm_is_calm(calm: Simulation) -> None:
    quotes = calm.quotes
    assert (1e4 * (quotes["ask"] / quotes["bid"]).log()).max() < 5.0
    error = quoted_mid_at(calm, calm.truth) - bps(calm, calm.truth["mid"])
    assert math.sqrt(np.mean(error**2)) < 1.0
    assert (calm.hidden["backlog"] == 0).all()
    assert calm.hidden["toxicity"].max() < 0.5


@pytest.mark.parametrize(("scenario", "share"), [("calm", 0.0), ("flush", 0.0), ("news", 1.0), ("mixed", 0.6)])
def test_news_moves_the_efficient_price_and_sellers_do_not(scenario: Any, share: float) -> None:
    """All scenarios of a seed share the random walk, so the difference to calm is the news."""
    walk, tape = simulate("calm", seed=4), simulate(scenario, seed=4)
    news = bps(tape, tape.hidden["efficient"]) - bps(walk, walk.hidden["efficient"])
    shock = tape.shocks[0]
    times = np.arange(1, 18_001) * STEP
    ramp = np.clip((times - shock.start) / shock.ramp, 0.0, 1.0)
    assert shock.news == pytest.approx(share * Shock.draw("news", 4).news)
    np.testing.assert_allclose(news, -shock.news * ramp, atol=0.11 * shock.news / shock.ramp + 1e-6)


def test_the_seller_sells_what_was_ordered(flush: Simulation) -> None:
    sold = flush.trades.filter(flush.labels["agent"] == "seller")
    assert (sold["side"] == -1).all()
    assert sold["size"].sum() == pytest.approx(flush.shocks[0].seller, rel=1e-3)


def test_flush_dislocates_the_quoted_mid_and_news_alone_does_not() -> None:
    flush, info = simulate("flush", seed=5), simulate("info", seed=5)
    after = info.truth.filter(pl.col("ts") > info.truth["ts"][0] + pl.duration(seconds=round(info.shocks[0].start)))
    quiet = quoted_mid_at(info, after) - bps(info, after["mid"])
    assert np.sqrt(np.mean(stress_error(flush) ** 2)) > 5 * np.sqrt(np.mean(quiet**2))
    assert np.mean(stress_error(flush)) < 0  # the quoted mid lies below the maker's own


def test_the_hidden_mid_is_smooth_where_the_quoted_mid_jumps(flush: Simulation) -> None:
    hidden = np.abs(np.diff(bps(flush, flush.truth["mid"])))
    quoted = np.abs(np.diff(quoted_mid_at(flush, flush.truth)))
    assert hidden.max() < 1.0
    assert quoted.max() > 5 * hidden.max()


def test_every_half_hour_brings_one_shock_laid_from_the_mark_of_that_moment() -> None:
    tape = simulate("flush", seed=8, duration=5400.0)
    assert [shock.begin for shock in tape.shocks] == [0.0, 1800.0, 3600.0]
    assert len({shock.seller for shock in tape.shocks}) == 3
    hidden = tape.hidden.with_columns(second=(pl.col("ts").to_physical() - tape.start) / SECOND)
    assert tape.episodes.height >= 2
    for row in tape.episodes.iter_rows(named=True):
        second = (row["ts_start"] - tape.truth["ts"][0]).total_seconds()
        shock = tape.shocks[int(second // 1800)]
        slot = hidden.filter(pl.col("second").is_between(shock.begin, second + 0.2))
        fall = 1e4 * math.log(slot["mark"][0] / slot["mark"].min())  # type: ignore[arg-type, operator]
        assert fall > min(shock.thresholds) - 0.5


# ------------------------------------------------------------------------------------------ makers, books, scale


def test_books_differ_in_what_a_sweep_leaves_behind() -> None:
    tapes = {book: simulate("flush", seed=2, book=book, maker="GM") for book in BOOKS}
    assert all(tape.params.depth == tapes["deep"].params.depth for tape in tapes.values())
    error = {book: np.mean(np.abs(stress_error(tape))) for book, tape in tapes.items()}
    assert error["sym"] < error["shallow"] < error["deep"]


def test_makers_differ_in_centre_and_split() -> None:
    params = {maker: MarketParams.draw(3, maker=maker) for maker in MAKERS}
    assert (params["AS"].phi, params["GM"].phi, params["DEF"].phi) == (0.0, 1.0, -0.5)
    assert params["GM"].skew == 0.0 < params["DEF"].skew < params["AS"].skew
    assert {dataclasses.replace(p, phi=0.0, skew=0.0) for p in params.values()} == {
        dataclasses.replace(params["AS"], phi=0.0, skew=0.0)
    }
    assert {simulate("calm", seed=seed, duration=0.1).maker for seed in range(40)} == set(MAKERS)


@pytest.mark.parametrize("book", BOOKS)
def test_mirror_turns_the_market_over_order_for_order(book: Any) -> None:
    shock = Shock(0.0, 300.0, seller=4000.0, thresholds=(10.0, 20.0, 30.0), positions=(500.0, 500.0, 500.0))
    down, up = (
        simulate("flush", seed=5, duration=600.0, book=book, mirror=mirror, shocks=(shock,)) for mirror in (False, True)
    )
    assert bps(down, down.truth["mid"]) == pytest.approx(-bps(up, up.truth["mid"]), abs=1e-9)
    assert down.hidden["inventory"].equals(-up.hidden["inventory"])
    assert down.hidden["bid_depth"].equals(up.hidden["ask_depth"], check_names=False)
    here, there = orders(down), orders(up)
    assert here.select("ts", "lots", "agent").equals(there.select("ts", "lots", "agent"))
    assert here["side"].equals(-there["side"])
    assert (up.liquidations["side"] == 1).all()
    assert up.episodes["worst_price"][0] > up.price > down.episodes["worst_price"][0]
    # Prices mirror up to the grid: quotes are posted at the tick that lies outward.
    tick = 1e4 * down.tick / down.price
    sampled = down.truth.select("ts")
    one, other = (sampled.join_asof(tape.quotes, on="ts") for tape in (down, up))
    assert np.abs(bps(down, one["bid"]) + bps(up, other["ask"])).max() < 1.1 * tick
    assert np.abs(bps(down, one["ask"]) + bps(up, other["bid"])).max() < 1.1 * tick


def test_another_scale_is_the_same_market_in_other_units(flush: Simulation) -> None:
    """A coin of 5 with 20,000 times the size: same orders, same log prices, up to coarser grids."""
    coin = simulate("flush", seed=5, duration=900.0, price=5.0, tick=0.000005, lot=20.0)
    assert orders(coin)["lots"].equals(orders(flush)["lots"])
    assert coin.size_scale == 20_000.0
    np.testing.assert_allclose(coin.truth["mid"] / 5.0, flush.truth["mid"] / 100_000.0, rtol=1e-12)
    np.testing.assert_allclose(coin.hidden["inventory"], 20_000.0 * flush.hidden["inventory"], rtol=1e-9)


def test_instrument_names_the_grids(flush: Simulation) -> None:
    assert (flush.instrument.tick, flush.instrument.lot, flush.instrument.inverse) == (0.1, 0.001, False)
    assert flush.instrument.quotes_base_coin


# ------------------------------------------------------------------------------------------ equations


def splitmix(state: int) -> tuple[int, int]:
    mask = 2**64 - 1
    state = (state + 0x9E3779B97F4A7C15) & mask
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return state, z ^ (z >> 31)


def xoshiro(seed: int, stream: int, n: int) -> list[float]:
    """xoshiro256++ seeded by splitmix64, in plain integers."""
    mask = 2**64 - 1
    state = splitmix(seed)[1] ^ splitmix(stream ^ 0x5851F42D4C957F2D)[1]
    s = []
    for _ in range(4):
        state, word = splitmix(state)
        s.append(word)
    out = []
    for _ in range(n):
        total = (s[0] + s[3]) & mask
        result = (((total << 23) | (total >> 41)) + s[0]) & mask
        t = (s[1] << 17) & mask
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = ((s[3] << 45) | (s[3] >> 19)) & mask
        out.append(((result >> 11) + 0.5) / 2**53)
    return out


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (1, 101), (2**64 - 1, 2**32)])
def test_random_numbers_are_xoshiro(seed: int, stream: int) -> None:
    assert _simulate.uniforms(seed, stream, 50).tolist() == xoshiro(seed, stream, 50)


def test_the_efficient_price_is_a_random_walk(calm: Simulation) -> None:
    steps = np.diff(bps(calm, calm.hidden["efficient"])) / (calm.params.volatility * math.sqrt(STEP))
    assert stats.kstest(steps, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(steps[:-1], steps[1:])[0, 1]) < 0.05


def test_noise_orders_arrive_at_their_rate_with_signs_that_persist(calm: Simulation) -> None:
    noise = orders(calm).filter(pl.col("agent") == "noise")
    expected = calm.params.noise_rate * calm.duration
    assert noise.height == pytest.approx(expected, abs=4 * math.sqrt(expected))
    side = noise["side"].to_numpy().astype(float)
    assert np.corrcoef(side[:-1], side[1:])[0, 1] == pytest.approx(calm.params.noise_persistence, abs=0.05)
    sizes = np.log(noise["lots"].to_numpy() / 1000.0)
    assert np.median(sizes) == pytest.approx(math.log(calm.params.noise_size), abs=0.1)
    assert sizes.std() == pytest.approx(calm.params.noise_spread, abs=0.1)


def test_arbitrageurs_trade_towards_the_efficient_price_within_their_capacity() -> None:
    market = dataclasses.replace(MarketParams.draw(5), arb_capacity=30.0)
    tape = simulate("info", seed=5, params=market)
    arbs = orders(tape).filter(pl.col("agent") == "arbitrage")
    step = (ns(arbs) - tape.start) // (SECOND // 10)
    edge = bps(tape, tape.hidden["efficient"])[step] - bps(tape, arbs["price"])
    assert (edge * arbs["side"].to_numpy() > market.arb_fee - 0.5).all()  # 0.5: orders before it in the same step
    position, last, most = 0.0, 0, 0.0
    for now, side, lots in zip(step, arbs["side"], arbs["lots"], strict=True):
        position = position * math.exp(-STEP * (now - last) / market.tau_arb) + side * lots * tape.lot
        last = now
        if now > 6000:  # by then the unrecorded position of the start has been freed
            most = max(most, abs(position))
    assert most == pytest.approx(30.0, abs=0.3)


def test_depth_is_sent_again_only_when_it_is_off_by_five_percent(flush: Simulation) -> None:
    for column in ("bid_depth", "ask_depth"):
        change = np.abs(np.diff(np.log(flush.hidden[column].to_numpy())))
        assert (change > 0).any()
        assert change[change > 0].min() > 0.05


class PlainMaker:
    """The maker's rules a second time, from prints and recorded state, step by step in plain Python."""

    def __init__(self, tape: Simulation) -> None:
        self.p = tape.params
        self.F = 0.0
        self.inventory = self.signed = self.total = 0.0
        self.holes = [0.0, 0.0]

    def step(self, flow: list[tuple[int, float, bool]], row: dict[str, float], depth: tuple[float, float]) -> None:
        p = self.p
        for sign, size, forced in flow:
            self.F += p.impact * sign * size * (1.0 - p.discount if forced else 1.0)
            self.inventory -= sign * size
            self.signed += sign * size
            self.total += size
            hit = 0 if sign < 0 else 1
            self.holes[hit] += p.hole_share * size / depth[hit]
            self.holes[1 - hit] += (1.0 - p.hole_share) * size / depth[hit]
        self.F += STEP / p.tau_mid * (row["V"] - self.F)
        self.inventory *= math.exp(-STEP / p.tau_inventory)
        self.signed *= math.exp(-STEP / p.tau_tox)
        self.total *= math.exp(-STEP / p.tau_tox)
        refill = p.refill * (1.0 + p.refill_slowing * self.toxicity)
        self.holes = [hole * math.exp(-STEP / refill) for hole in self.holes]

    @property
    def toxicity(self) -> float:
        return min(1.0, max(0.0, (abs(self.signed) - self.p.tox_floor) / (self.p.tox_full - self.p.tox_floor)))

    def quotes(self, volatility: float) -> tuple[float, float]:
        p = self.p
        risk = min(12.0, max(1.0, (volatility / p.volatility) ** 2))
        centre = self.F - max(-p.skew_cap, min(p.skew_cap, p.skew * risk * self.inventory))
        half = p.half_spread * (1.0 + p.widening * self.toxicity**2)
        half += p.vol_spread * max(volatility - 1.5 * p.volatility, 0.0)
        selling = -self.signed / self.total if self.total else 0.0
        return (
            centre - half * (1.0 - p.phi * selling) - self.holes[0],
            centre + half * (1.0 + p.phi * selling) + self.holes[1],
        )


@pytest.mark.parametrize(("maker", "book"), [("AS", "shallow"), ("GM", "deep"), ("DEF", "sym")])
def test_quotes_obey_the_equations(maker: Any, book: Any) -> None:
    """Every posted quote lies within the tick outward of what the equations give from the prints."""
    # No error in what she learns, and short memories, so that the unrecorded start is forgotten in two minutes.
    market = MarketParams.draw(5, maker=maker, book=book)
    market = dataclasses.replace(market, mid_noise=0.0, tau_inventory=8.0, tau_tox=5.0, tau_mid=8.0)
    shock = Shock(0.0, 200.0, seller=6000.0, thresholds=(5.0, 10.0, 15.0), positions=(800.0, 800.0, 800.0))
    tape = simulate("flush", seed=5, duration=600.0, params=market, shocks=(shock,))
    assert tape.liquidations["size"].sum() > 1000.0
    flows: list[list[tuple[int, float, bool]]] = [[] for _ in range(6000)]
    placed = orders(tape)
    steps = (ns(placed) - tape.start) // (SECOND // 10)
    for step, order in zip(steps, placed.iter_rows(named=True), strict=True):
        flows[step].append((order["side"], order["lots"] / 1000.0, order["agent"] == "liquidation"))
    hidden = tape.hidden.with_columns(
        V=pl.Series(bps(tape, tape.hidden["efficient"])), F=pl.Series(bps(tape, tape.hidden["mid"]))
    )
    posted = hidden.select("ts").join_asof(tape.quotes, on="ts")
    bids, asks = bps(tape, posted["bid"]), bps(tape, posted["ask"])
    plain = PlainMaker(tape)
    depth = (market.depth, market.depth)
    tick = 1e4 * tape.tick / posted["bid"].min()  # type: ignore[operator]
    most = volatility = 0.0
    for step, row in enumerate(hidden.iter_rows(named=True)):
        plain.step(flows[step], row, depth)
        depth = (row["bid_depth"], row["ask_depth"])
        bid, ask = plain.quotes(volatility)
        volatility = row["volatility"]  # measured on the quote just posted, used for the next
        if step < 1500:
            continue
        assert row["F"] == pytest.approx(plain.F, abs=1e-5)
        assert row["inventory"] == pytest.approx(plain.inventory, abs=1e-5)
        assert row["toxicity"] == pytest.approx(plain.toxicity, abs=1e-6)
        assert -1e-4 <= bid - bids[step] <= tick + 1e-4
        assert -1e-4 <= asks[step] - ask <= tick + 1e-4
        for share, side in ((1.0, "bid_depth"), (market.thinning_far, "ask_depth")):
            if plain.signed < 0:
                law = market.depth / (1.0 + market.thinning * plain.toxicity * share)
                assert abs(math.log(row[side] / law)) <= 0.05 + 1e-9  # re-sent only when off by 5 %
        most = max(most, plain.toxicity)
    assert most == 1.0


def test_the_maker_measures_the_volatility_of_her_quoted_mid(flush: Simulation) -> None:
    mid = quoted_mid_at(flush, flush.truth)
    keep = math.exp(-STEP / flush.params.tau_volatility)
    variance = np.zeros(len(mid))
    for k in range(10, len(mid)):
        variance[k] = keep * variance[k - 1] + (1.0 - keep) * (mid[k] - mid[k - 10]) ** 2
    np.testing.assert_allclose(np.sqrt(variance[3000:]), flush.hidden["volatility"].to_numpy()[3000:], atol=0.005)


def test_the_mark_is_an_average_of_the_quoted_mid(flush: Simulation) -> None:
    quoted = quoted_mid_at(flush, flush.truth)
    gain = 1.0 - math.exp(-STEP / flush.params.tau_mark)
    mark, marks = 0.0, []
    for x in quoted:
        mark += gain * (x - mark)
        marks.append(mark)
    np.testing.assert_allclose(marks[300:], bps(flush, flush.hidden["mark"])[300:], atol=0.01)


def test_displayed_depth_is_the_makers_depth(calm: Simulation) -> None:
    """Level sizes are density times width times a factor of mean one, so the whole stack holds the density."""
    first = calm.book.filter(pl.col("snapshot"))
    for side, column in ((1, "bid_depth"), (-1, "ask_depth")):
        stack = first.filter(pl.col("side") == side)
        width = 1e4 * abs(math.log(stack["price"].max() / stack["price"].min()))  # type: ignore[arg-type, operator]
        assert stack["size"].sum() / width == pytest.approx(calm.hidden[column][0], rel=0.15)


# ------------------------------------------------------------------------------------------ refusals and files


@pytest.mark.parametrize(
    "arguments",
    [
        {"scenario": "crash"},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 0.5},
        {"duration": 0.0},
        {"duration": 0.25},
        {"duration": math.nan},
        {"maker": "as"},
        {"book": "thin"},
        {"price": 0.0},
        {"tick": -0.1},
        {"tick": 1000.0},
        {"lot": 1.0},
        {"size_scale": math.inf},
        {"levels": 0},
        {"levels": 2049},
        {"start": "yesterday"},
        {"params": MarketParams.draw(1), "maker": "GM"},
        {"shocks": (Shock(10.0, 20.0), Shock(0.0, 5.0))},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        simulate(**({"scenario": "calm", "duration": 1.0} | arguments))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(MarketParams)])
def test_every_market_parameter_has_a_range(field: str) -> None:
    with pytest.raises(ParameterError, match=field):
        dataclasses.replace(MarketParams.draw(1), **{field: -2.0})
    with pytest.raises(ParameterError, match=field):
        dataclasses.replace(MarketParams.draw(1), **{field: math.nan})


@pytest.mark.parametrize(
    "change",
    [
        {"start": -1.0},
        {"begin": 11.0},
        {"ramp": 0.0},
        {"seller_seconds": 0.0},
        {"news": math.nan},
        {"seller": -1.0},
        {"thresholds": (1.0, -1.0, 0.0)},
        {"positions": (math.inf, 0.0, 0.0)},
    ],
    ids=str,
)
def test_every_part_of_a_shock_has_a_range(change: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        dataclasses.replace(Shock(0.0, 10.0), **change)


def test_the_core_refuses_what_it_cannot_hold() -> None:
    arguments: dict[str, Any] = {"seed": 0, "steps": 1, "start": 0, "first_price": 1.0, "tick": 0.001, "lot": 1.0}
    arguments |= {"size_scale": 1.0, "cell": 0.25, "mirror": False}
    world = dataclasses.asdict(MarketParams.draw(0))
    with pytest.raises(ValueError, match="columns"):
        _simulate.run(world, np.zeros((1, 3)), levels=0, **arguments)
    with pytest.raises(ValueError, match="levels"):
        _simulate.run(world, np.zeros((0, _simulate.SHOCK_COLUMNS)), levels=_simulate.MAX_LEVELS + 1, **arguments)


def _maker_of_the_tape(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_simulated", folder / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shipped_tape_is_what_its_script_makes(samples: Path) -> None:
    """A golden file: it changes only when someone means to change the simulator."""
    folder = samples / "simulated"
    made = _maker_of_the_tape(folder)
    tape = made.tape()
    for name in made.TABLES:
        now = getattr(tape, name).drop("ts_event", strict=False)
        then = pl.read_parquet(folder / f"{name}.parquet")
        floats = [column for column, dtype in now.schema.items() if dtype.is_float()]
        assert now.drop(floats).equals(then.drop(floats)), name
        np.testing.assert_allclose(now.select(floats), then.select(floats), rtol=1e-9, err_msg=name)


def test_kinds_named_here_are_kinds_of_the_schema() -> None:
    assert set(CANONICAL.values()) <= set(get_args(Kind))
