"""A perpetual market whose maker's mid is known: where an estimate of it can be checked against the truth.

`simulate` plays one market maker, several kinds of takers and a liquidation engine on a grid of 0.1 s. It gives the
tape that a recorder would have seen, together with what no recorder ever sees: the maker's own mid, who sent each
order, and when the cascades began and ended.

The model
---------
Prices are ``x``, bps of log price relative to the first mid; sizes ``v`` are BTC; times are seconds; ``dt = 0.1``;
``N`` are standard normal numbers; ``e = +1`` for a taker buy and ``-1`` for a taker sell. Other names are fields of
`MarketParams`, most of them drawn anew for every seed, or of `Shock`.

Hidden prices
    The efficient price is exogenous, a random walk with ramps of news: ``dV = volatility sqrt(dt) N - news dt / ramp``.
    The maker's mid follows it with a lag and learns from the flow, from liquidations less than from other orders::

        dF = dt / tau_mid (V + mid_noise N - F) + impact sum(e v (1 - discount [liquidation]))

Quotes
    With inventory ``q`` (decaying over `tau_inventory`, because she hedges elsewhere), variance ``s2`` of one-second
    moves of the quoted mid (exponential memory `tau_volatility`), ``s0 = volatility``, signed and total flow ``J, U``
    over `tau_tox`, toxicity ``g = clip((|J| - tox_floor) / (tox_full - tox_floor), 0, 1)`` and ``P = -J / U``::

        r   = F - clip(skew clip(s2 / s0^2, 1, 12) q, -skew_cap, skew_cap)
        h   = half_spread (1 + widening g^2) + vol_spread max(sqrt(s2) - 1.5 s0, 0)
        bid = r - h (1 - phi P) - hole_bid
        ask = r + h (1 + phi P) + hole_ask

    Four designs: ``"AS"`` centres on inventory and risk (phi = 0), ``"GM"`` quotes the conditional expectations of
    Glosten and Milgrom (phi = 1, no skew: with sells only, her mid is her bid), ``"DEF"`` defends the hit side
    (phi = -1/2, some skew), ``"MIX"`` anything between.

Book
    Depth ``D = depth / (1 + thinning g)`` BTC per bps on the hit side; on the other side ``g`` counts by the share
    `thinning_far`. A sweep of ``v`` leaves a hole ``v / D``, which refills over ``refill (1 + refill_slowing g)``.
    Books: ``"shallow"``; ``"deep"``, whose holes refill slowly, as in small coins; ``"sym"``, where half of every hole
    is on the other side, because the maker pulls both. Displayed levels stand 0.25 bps apart and carry ``D`` times a
    factor fixed per price.

Takers
    Noise (Poisson, log-normal sizes, signs that persist), arbitrageurs who trade towards ``V`` when the edge exceeds
    their fee and they have capacity left, an uninformed seller of a fixed amount, and leveraged longs in three clusters
    of thresholds. When the mark, an average of the quoted mid over `tau_mark`, passes a threshold, the position joins
    the backlog of a liquidation engine, which sells about `engine_rate`: that moves the mark, which triggers more.

Scenarios
    ============ =========================== ============================== ===================
    scenario     efficient price             uninformed seller              leveraged longs
    ============ =========================== ============================== ===================
    ``"calm"``   random walk                 none                           none
    ``"flush"``  random walk                 450-4000 BTC in 30-120 s       3000-5000 BTC
    ``"news"``   falls 40-120 bps in 5-60 s  none                           1500-2500 BTC
    ``"mixed"``  falls 24-72 bps in 5-60 s   a tenth of that                1500-2000 BTC
    ``"info"``   as ``"news"``               none                           none
    ============ =========================== ============================== ===================

    Every half hour brings one shock, laid relative to the mark of that moment.

Scale
-----
The root mean square of quoted minus hidden mid over 200 seeds, in seconds with more than 50 BTC liquidated during the
last two minutes, is 46 bps in ``"flush"``, 20 in ``"news"`` and 16 in ``"mixed"``; it is 1.6 in the five minutes after
the news of ``"info"`` and 0.15 in calm. The median of the widest spread is 97, 60 and 55 bps.

What it is not
--------------
There is one maker and no competing venue; ``V`` does not react to anything; nobody has latency, spoofs or gives up; the
shape of the holes is an assumption. Orders of magnitude are those of a Bitcoin perpetual, harsher in ``"flush"``. So
rankings of estimators and the ways in which they fail carry over to real markets better than the size of any gain.

References
----------
The maker's rules borrow from Glosten and Milgrom (1985, doi:10.1016/0304-405X(85)90044-3) and from Avellaneda and
Stoikov (2008, doi:10.1080/14697680701381228).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toxmid import _simulate
from toxmid.draws import Draw
from toxmid.errors import ParameterError
from toxmid.instrument import Instrument
from toxmid.schema import TIME, parse_time
from toxmid.venues import OTHER_VENUES, OtherVenue, exchange_mark, venue_index

__all__ = ["BOOKS", "MAKERS", "SCENARIOS", "MarketParams", "Shock", "Simulation", "simulate"]

Scenario = Literal["calm", "flush", "news", "mixed", "info"]
Maker = Literal["AS", "GM", "DEF", "MIX"]
Book = Literal["shallow", "deep", "sym"]
SCENARIOS: Final[tuple[Scenario, ...]] = get_args(Scenario)
MAKERS: Final[tuple[Maker, ...]] = get_args(Maker)
BOOKS: Final[tuple[Book, ...]] = get_args(Book)

STEP: Final = 0.1  # s
_SLOT: Final = 1800.0  # s, one shock in each
_EPISODE_GAP: Final = 60  # s without a forced order end a cascade
_CELL: Final = 0.25  # bps between displayed levels
_REFERENCE_PRICE: Final = 100_000.0  # at which a BTC-equivalent is one coin
_MAX_SEED: Final = 2**64 - 1
_AGENTS: Final = dict(enumerate(_simulate.AGENTS))


@dataclass(frozen=True)
class MarketParams:
    """Structure of one simulated market; the equations that use it stand at the top of the module.

    Sizes are BTC-equivalents: `simulate` turns them into coins by its ``size_scale``.

    Raises
    ------
    ParameterError
        A value outside its range.

    Examples
    --------
    >>> market = MarketParams.draw(seed=1, maker="GM")
    >>> market.phi, market.skew
    (1.0, 0.0)
    >>> dataclasses.replace(market, refill=0.0)
    Traceback (most recent call last):
        ...
    toxmid.errors.ParameterError: refill is out of range (found 0.0, expected a number > 0)
    """

    # Hidden prices
    volatility: float  # bps per sqrt(s)
    tau_mid: float  # s
    mid_noise: float  # bps, per step
    impact: float  # bps per BTC
    discount: float  # share, 0..1
    # Quotes
    skew: float  # bps per BTC
    skew_cap: float  # bps
    phi: float  # -1..1
    half_spread: float  # bps
    widening: float  # multiples of the half spread at full toxicity
    vol_spread: float  # bps per (bps per sqrt(s))
    tau_inventory: float  # s
    tau_volatility: float  # s
    # Toxicity as the maker sees it
    tau_tox: float  # s
    tox_floor: float  # BTC
    tox_full: float  # BTC, above tox_floor
    # Book
    depth: float  # BTC per bps and side
    thinning: float  # 8: a ninth of the depth is left at full toxicity
    thinning_far: float  # share, 0..1
    refill: float  # s
    refill_slowing: float
    hole_share: float  # of a hole on the hit side, 0.5..1
    # Takers
    noise_rate: float  # orders per s, at most 100
    noise_persistence: float  # share of orders that repeat the last sign, 0..1
    noise_size: float  # BTC, median
    noise_spread: float  # standard deviation of log size
    arb_fee: float  # bps
    arb_slope: float  # BTC per s and bps of edge
    arb_capacity: float  # BTC
    tau_arb: float  # s, over which capacity frees itself
    tau_mark: float  # s
    engine_rate: float  # BTC per s
    cluster_width: float  # bps over which the thresholds of one cluster lie

    def __post_init__(self) -> None:
        shares = {"discount", "thinning_far", "hole_share", "noise_persistence"}
        may_be_zero = shares | {"mid_noise", "impact", "skew", "widening", "vol_spread", "tox_floor", "thinning"}
        may_be_zero |= {"refill_slowing", "noise_rate", "noise_spread", "arb_fee", "arb_slope", "arb_capacity"}
        for name, value in dataclasses.asdict(self).items():
            if name == "phi":
                _require(name, value, -1.0 <= value <= 1.0, "-1..1")
            elif name in shares:
                _require(name, value, 0.0 <= value <= 1.0, "0..1")
            elif name in may_be_zero:
                _require(name, value, 0.0 <= value < math.inf, "a number >= 0")
            else:
                _require(name, value, 0.0 < value < math.inf, "a number > 0")
        _require("noise_rate", self.noise_rate, self.noise_rate <= 100.0, "at most 100 orders per s")
        _require("tox_full", self.tox_full, self.tox_full > self.tox_floor, f"more than tox_floor = {self.tox_floor}")

    @classmethod
    def draw(cls, seed: int, *, maker: Maker = "AS", book: Book = "shallow") -> MarketParams:
        """The market of a seed: every structural parameter from its own range.

        Parameters
        ----------
        seed : int
            0..2**64 - 1.
        maker : {"AS", "GM", "DEF", "MIX"}
            Which side carries the half spread, and how much she skews.
        book : {"shallow", "deep", "sym"}
            What a sweep leaves behind.

        Returns
        -------
        MarketParams
            The same for every scenario; makers and books differ only in what defines them.
        """
        d = Draw(seed, "market")
        skew = d.log_between("skew", 1.8e-3, 6.5e-3)
        designs = {
            "AS": (0.0, 1.0),
            "GM": (1.0, 0.0),
            "DEF": (-0.5, 0.3),
            "MIX": (d.between("phi", -0.75, 1.0), d.unit("skew_share")),
        }
        phi, skew_share = designs[maker]
        return cls(
            volatility=d.between("volatility", 0.7, 1.3),
            tau_mid=d.between("tau_mid", 15.0, 60.0),
            mid_noise=10.0,
            impact=d.between("impact", 0.006, 0.02),
            discount=d.between("discount", 0.3, 0.9),
            skew=skew * skew_share,
            skew_cap=100.0,
            phi=phi,
            half_spread=d.between("half_spread", 0.1, 0.4),
            widening=d.between("widening", 10.0, 30.0),
            vol_spread=d.between("vol_spread", 0.3, 1.2),
            tau_inventory=d.between("tau_inventory", 60.0, 300.0),
            tau_volatility=20.0,
            tau_tox=10.0,
            tox_floor=25.0,
            tox_full=d.between("tox_full", 150.0, 300.0),
            depth=d.between("depth", 15.0, 45.0),
            thinning=8.0,
            thinning_far=1.0 if book == "sym" else 0.5,
            refill=d.between("refill", 1.5, 5.0) if book == "deep" else d.between("refill", 0.3, 1.5),
            refill_slowing=3.0,
            hole_share=0.5 if book == "sym" else 1.0,
            noise_rate=d.between("noise_rate", 3.0, 8.0),
            noise_persistence=d.between("noise_persistence", 0.6, 0.9),
            noise_size=0.15,
            noise_spread=1.3,
            arb_fee=d.between("arb_fee", 2.0, 5.0),
            arb_slope=d.between("arb_slope", 0.2, 0.8),
            arb_capacity=d.between("arb_capacity", 150.0, 500.0),
            tau_arb=d.between("tau_arb", 60.0, 180.0),
            tau_mark=d.between("tau_mark", 0.5, 3.0),
            engine_rate=d.between("engine_rate", 20.0, 60.0),
            cluster_width=d.between("cluster_width", 3.0, 10.0),
        )


@dataclass(frozen=True)
class Shock:
    """What happens in one slot of the tape. Times are seconds from the start of the tape, sizes BTC-equivalents.

    Raises
    ------
    ParameterError
        A value outside its range.

    Examples
    --------
    >>> Shock(begin=0.0, start=60.0, seller=500.0).thresholds
    (0.0, 0.0, 0.0)
    """

    begin: float  # s: positions are laid below the mark of this moment
    start: float  # s: news and seller start
    news: float = 0.0  # bps that the efficient price falls
    ramp: float = 1.0  # s that the fall takes
    seller: float = 0.0  # BTC
    seller_seconds: float = 60.0  # s over which the seller spreads it
    thresholds: tuple[float, float, float] = (0.0, 0.0, 0.0)  # bps below the mark at `begin`
    positions: tuple[float, float, float] = (0.0, 0.0, 0.0)  # BTC of leveraged longs in each cluster

    def __post_init__(self) -> None:
        _require("start", self.start, 0.0 <= self.begin <= self.start < math.inf, "begin <= start, both >= 0")
        _require("ramp", self.ramp, 0.0 < self.ramp < math.inf, "a number > 0")
        _require("seller_seconds", self.seller_seconds, 0.0 < self.seller_seconds < math.inf, "a number > 0")
        _require("news", self.news, math.isfinite(self.news), "a finite number")
        for name in ("seller", "thresholds", "positions"):
            value = getattr(self, name)
            _require(name, value, all(0.0 <= v < math.inf for v in np.atleast_1d(value)), "numbers >= 0")

    @classmethod
    def draw(cls, scenario: Scenario, seed: int, *, slot: int = 0, begin: float = 0.0, length: float = _SLOT) -> Shock:
        """The shock of a scenario in one slot of `length` seconds that starts at `begin`."""
        d = Draw(seed, f"shock{slot}")
        news_share = {"news": 1.0, "mixed": 0.6, "info": 1.0}.get(scenario, 0.0)
        seller_share = {"flush": 1.0, "mixed": 0.1}.get(scenario, 0.0)
        lowest, highest = {"flush": (3000.0, 5000.0), "news": (1500.0, 2500.0), "mixed": (1500.0, 2000.0)}.get(
            scenario, (0.0, 0.0)
        )
        longs = d.between("longs", lowest, highest)
        weights = [d.between(f"weight{i}", 0.5, 1.5) for i in range(3)]
        first, second, third = (longs * weight / sum(weights) for weight in weights)
        return cls(
            begin=begin,
            start=begin + length * d.between("start", 0.35, 0.5),
            news=news_share * d.between("news", 40.0, 120.0),
            ramp=d.between("ramp", 5.0, 60.0),
            seller=seller_share * d.log_between("seller", 450.0, 4000.0),
            seller_seconds=d.between("seller_seconds", 30.0, 120.0),
            thresholds=(
                d.between("first", 12.0, 35.0),
                d.between("second", 40.0, 130.0),
                d.between("third", 80.0, 220.0),
            ),
            positions=(first, second, third),
        )

    def _row(self) -> list[float]:
        return [
            self.begin,
            self.start,
            self.news,
            self.ramp,
            self.seller,
            self.seller_seconds,
            *self.thresholds,
            *self.positions,
        ]


@dataclass(frozen=True, eq=False, repr=False)
class Simulation:
    """One simulated tape and the truth behind it; made by `simulate`.

    Tables are canonical polars frames, made when first asked for. Times are ``Datetime("ns", "UTC")``, and since nobody
    here has latency, ``ts_event`` equals ``ts`` except in the throttled feed. A trade comes before the quote it causes.

    Attributes
    ----------
    scenario, seed, mirror, price, tick, lot, size_scale, levels : as given to `simulate`
    maker, kind : str
        Design of the maker and of the book; ``"given"`` where `params` came from the caller.
    start : int
        First moment, int64 nanoseconds since 1970 UTC.
    duration : float
        Seconds.
    params : MarketParams
    shocks : tuple of Shock
    """

    scenario: Scenario
    seed: int
    maker: str
    kind: str
    mirror: bool
    start: int
    duration: float
    price: float
    tick: float
    lot: float
    size_scale: float
    levels: int
    params: MarketParams
    shocks: tuple[Shock, ...]

    @property
    def instrument(self) -> Instrument:
        """Grids of the tape: a linear market in base coin."""
        return Instrument(tick=self.tick, lot=self.lot)

    @cached_property
    def _tape(self) -> dict[str, NDArray[Any]]:
        return self._play(levels=0)

    def _play(self, levels: int) -> dict[str, NDArray[Any]]:
        return _simulate.run(
            dataclasses.asdict(self.params),
            np.array([shock._row() for shock in self.shocks]).reshape(-1, _simulate.SHOCK_COLUMNS),
            seed=self.seed,
            steps=round(self.duration / STEP),
            start=self.start,
            first_price=self.price,
            tick=self.tick,
            lot=self.lot,
            size_scale=self.size_scale,
            cell=_CELL,
            levels=levels,
            mirror=self.mirror,
        )

    def __repr__(self) -> str:
        trades, forced = len(self._tape["trades"]), len(self._tape["liquidations"])
        return (
            f"Simulation({self.scenario!r}, seed={self.seed}, {self.duration:g} s, "
            f"{trades} trades, {forced} liquidations)"
        )

    @cached_property
    def trades(self) -> pl.DataFrame:
        """Prints: ``ts, ts_event, price, size, side, id, lots``; an order over levels is rows of equal ``ts``."""
        rows = self._tape["trades"]
        return pl.DataFrame(
            {
                **_clock(rows),
                "price": self._price(rows["tick"]),
                "size": self._size(rows["lots"]),
                "side": rows["side"].copy(),
                "id": self._ids(),
                "lots": rows["lots"].copy(),
            }
        )

    @cached_property
    def labels(self) -> pl.DataFrame:
        """Who traded, a row per row of `trades`: ``id, order, agent, forced``.

        `order` counts taker orders; `agent` is ``noise``, ``arbitrage``, ``seller`` or ``liquidation``.
        """
        rows = self._tape["trades"]
        forced = rows["agent"] == _simulate.AGENTS.index("liquidation")
        agent = pl.Series(rows["agent"].copy()).replace_strict(_AGENTS, return_dtype=pl.Enum(_simulate.AGENTS))
        return pl.DataFrame({"id": self._ids(), "order": rows["order"].copy(), "agent": agent, "forced": forced})

    @cached_property
    def quotes(self) -> pl.DataFrame:
        """Every change of the best prices or sizes: ``ts, ts_event, bid, bid_size, ask, ask_size``."""
        rows = self._tape["quotes"]
        return pl.DataFrame(
            {
                **_clock(rows),
                "bid": self._price(rows["bid"]),
                "bid_size": self._size(rows["bid_lots"]),
                "ask": self._price(rows["ask"]),
                "ask_size": self._size(rows["ask_lots"]),
            }
        )

    @cached_property
    def book(self) -> pl.DataFrame:
        """Stream of the best levels: ``ts, ts_event, side, price, size, snapshot``; sizes are absolute, 0 deletes.

        Rows of equal ``ts`` are one message, the first message is a snapshot. Made by playing the tape again, because
        most uses never need it.
        """
        rows = self._play(self.levels)["book"]
        return pl.DataFrame(
            {
                **_clock(rows),
                "side": rows["side"].copy(),
                "price": self._price(rows["tick"]),
                "size": self._size(rows["lots"]),
                "snapshot": rows["snapshot"] != 0,
            }
        )

    @cached_property
    def liquidations(self) -> pl.DataFrame:
        """Every forced order: ``ts, ts_event, side, price, size``, with its average fill and the time of its prints."""
        rows = self._tape["liquidations"]
        return pl.DataFrame(
            {
                **_clock(rows),
                "side": rows["side"].copy(),
                "price": self._price(rows["tick"]),
                "size": self._size(rows["lots"]),
            }
        )

    @cached_property
    def liquidations_throttled(self) -> pl.DataFrame:
        """The feed of a venue that publishes at most one order per second: the latest, at the end of the second."""
        second = pl.col("ts_event").dt.truncate("1s")
        return (
            self.liquidations.group_by(second.alias("second"), maintain_order=True)
            .last()
            .with_columns(ts=pl.col("second").dt.offset_by("1s"))
            .select(self.liquidations.columns)
        )

    @cached_property
    def references(self) -> dict[str, pl.DataFrame]:
        """Canonical trades of other venues of the coin, by name: ``clean``, ``mixed`` and ``toxic``.

        How they are made stands in `toxmid.venues`. Made when first asked for, from random numbers of their own.
        """
        return {name: self._elsewhere(OtherVenue.draw(name, self.seed)) for name in OTHER_VENUES}

    @cached_property
    def mark(self) -> pl.DataFrame:
        """Mark and index price, once a second from when every venue has traded: ``ts, ts_event, price, index``."""
        seconds = self.start + np.arange(1, math.floor(self.duration) + 1, dtype=np.int64) * 10**9
        clock = pl.DataFrame({"ts": pl.Series(seconds).cast(TIME)})
        mid = self.quotes.select("ts", mid=(pl.col("bid") + pl.col("ask")) / 2)
        own = clock.join_asof(mid, on="ts").join_asof(self.trades.select("ts", last="price"), on="ts")
        index = venue_index(list(self.references.values()), clock)
        price = exchange_mark(self.seed, index, *(own[name].fill_null(math.nan).to_numpy() for name in ("mid", "last")))
        table = clock.with_columns(ts_event=pl.col("ts"), price=pl.Series(price), index=pl.Series(index))
        return table.filter(pl.col("price").is_finite())

    def _elsewhere(self, venue: OtherVenue) -> pl.DataFrame:
        rows, mirror = self._tape["hidden"], -1 if self.mirror else 1
        # The mean of logarithms: it is mirrored where the market is.
        log_mid = self.quotes.select("ts", mid=(pl.col("bid").log() + pl.col("ask").log()) / 2)
        quoted = self.hidden.select("ts").join_asof(log_mid, on="ts")["mid"].to_numpy() - math.log(self.price)
        mids = venue.mids(self.seed, rows["mid"], 1e4 * quoted, mirror)
        steps, moment, side, price, size = venue.orders(self.seed, mids, rows["toxicity"], mirror)
        step_ns = round(STEP * 1e9)
        ts = self.start + steps * step_ns + (moment * (step_ns - 1)).astype(np.int64) + 1
        lots = np.maximum(1, np.rint(size * self.size_scale / self.lot)).astype(np.int64)
        return pl.DataFrame(
            {
                **_clock_of(ts),
                "price": self._price(np.maximum(1, np.rint(self._level(price) / self.tick)).astype(np.int64)),
                "size": self._size(lots),
                "side": side,
            }
        )

    @cached_property
    def truth(self) -> pl.DataFrame:
        """The hidden mid at the end of every step of 0.1 s: ``ts, mid`` in quote currency."""
        return self.hidden.select("ts", "mid")

    @cached_property
    def hidden(self) -> pl.DataFrame:
        """Everything hidden at the end of every step.

        ``ts``; ``mid, efficient, mark`` in quote currency; ``inventory`` of the maker and ``backlog`` of the
        liquidation engine in base coin; ``bid_depth, ask_depth`` in base coin per bps; ``toxicity`` 0..1;
        ``volatility`` in bps per sqrt(s).
        """
        rows = self._tape["hidden"]
        prices = {name: self._level(rows[name]) for name in ("mid", "efficient", "mark")}
        coins = {name: self.size_scale * rows[name] for name in ("inventory", "backlog", "bid_depth", "ask_depth")}
        plain = {name: rows[name].copy() for name in ("toxicity", "volatility")}
        return pl.DataFrame({"ts": _clock(rows)["ts"], **prices, **coins, **plain})

    @cached_property
    def episodes(self) -> pl.DataFrame:
        """The cascades: forced orders less than 60 s apart.

        ``ts_start, ts_end``; ``side, volume, orders`` of the forced flow; ``worst_price``, the worst average fill;
        ``mid_start, mid_end``, the hidden mid in force at either end.
        """
        gap = (pl.col("ts").diff() > pl.duration(seconds=_EPISODE_GAP)).fill_null(value=False).cum_sum()
        worst = pl.col("price").max() if self.mirror else pl.col("price").min()
        cascades = self.liquidations.group_by(gap.alias("cascade"), maintain_order=True).agg(
            ts_start=pl.col("ts").first(),
            ts_end=pl.col("ts").last(),
            side=pl.col("side").first(),
            volume=pl.col("size").sum(),
            orders=pl.len(),
            worst_price=worst,
        )
        for end in ("start", "end"):
            mids = self.truth.select(pl.col("ts").alias(f"ts_{end}"), pl.col("mid").alias(f"mid_{end}"))
            cascades = cascades.join_asof(mids, on=f"ts_{end}")
        return cascades.drop("cascade")

    def _ids(self) -> pl.Series:
        return pl.int_range(len(self._tape["trades"]), eager=True).cast(pl.String)

    def _price(self, ticks: NDArray[Any]) -> NDArray[np.float64]:
        return _on_grid(ticks, self.tick)

    def _size(self, lots: NDArray[Any]) -> NDArray[np.float64]:
        return _on_grid(lots, self.lot)

    def _level(self, bps: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.price * np.exp(1e-4 * bps)


def simulate(
    scenario: Scenario,
    *,
    seed: int = 0,
    duration: float = 1800.0,
    maker: Maker | None = None,
    book: Book | None = None,
    mirror: bool = False,
    price: float = 100_000.0,
    tick: float = 0.1,
    lot: float = 0.001,
    size_scale: float | None = None,
    levels: int = 100,
    start: str | int | dt.datetime = "2025-01-01",
    params: MarketParams | None = None,
    shocks: tuple[Shock, ...] | None = None,
) -> Simulation:
    """Simulate a market with one maker whose own mid is known.

    The same arguments give the same tape. Two markets that differ in one argument share all random numbers that the
    argument does not touch, so that differences between them are due to it.

    Parameters
    ----------
    scenario : {"calm", "flush", "news", "mixed", "info"}
        What happens: nothing; a seller without news hits leveraged longs; news does; a little of both; news without
        leverage.
    seed : int
        0..2**64 - 1; decides the market's parameters, the shocks and all orders.
    duration : float
        Seconds, a multiple of 0.1. Every half hour (or the whole, if shorter) brings one shock.
    maker : {"AS", "GM", "DEF", "MIX"}, optional
        Design of the maker; drawn by the seed where left out.
    book : {"shallow", "deep", "sym"}, optional
        What a sweep leaves behind; ``"shallow"`` where left out.
    mirror : bool
        Turn the market over: shorts are liquidated and the price rises, order for order.
    price : float
        Hidden mid at the start, quote currency.
    tick, lot : float
        Price grid in quote currency, at most 10 bps of `price`; size grid in base coin, at most a median order.
    size_scale : float, optional
        Base coins per BTC-equivalent; where left out, as many as are worth 100,000 quote units.
    levels : int
        Levels per side in the book stream, 1..2048. They stand 0.25 bps (or one tick) apart.
    start : str, int or datetime
        First moment: ISO 8601 text, int64 nanoseconds or a datetime; without a zone UTC.
    params : MarketParams, optional
        A market of one's own, instead of `maker` and `book`.
    shocks : tuple of Shock, optional
        Shocks of one's own, instead of those of the scenario, in the order of `begin`.

    Returns
    -------
    Simulation
        ``.trades .quotes .book .liquidations .liquidations_throttled .references .mark .truth .labels .episodes
        .hidden`` and what made them.

    Raises
    ------
    ParameterError
        An unknown name, or a number outside its range.

    Notes
    -----
    Random numbers are the module's own (xoshiro256++, one stream per purpose), so a seed gives the same tape whatever
    the version of NumPy; between platforms it depends on the last bit of ``exp`` and ``log``.

    Examples
    --------
    >>> tape = simulate("flush", seed=1, duration=600.0)
    >>> tape.truth.columns, tape.truth.height
    (['ts', 'mid'], 6000)
    >>> forced = tape.trades.filter(tape.labels["forced"])
    >>> forced["lots"].sum() == (tape.liquidations["size"] / 0.001).round().sum() > 0
    True
    >>> simulate("calm", seed=1, duration=600.0).liquidations.height
    0
    """
    _one_of("scenario", scenario, SCENARIOS)
    _require("seed", seed, isinstance(seed, int) and 0 <= seed <= _MAX_SEED, "an integer in 0..2**64 - 1")
    seconds = _whole_steps(duration)
    _check_grids(price, tick, lot, size_scale)
    _require("levels", levels, isinstance(levels, int) and 1 <= levels <= _simulate.MAX_LEVELS, "1..2048")
    design, kind, params = _market(seed, maker, book, params)
    return Simulation(
        scenario=scenario,
        seed=seed,
        maker=design,
        kind=kind,
        mirror=bool(mirror),
        start=parse_time(start),
        duration=seconds,
        price=float(price),
        tick=float(tick),
        lot=float(lot),
        size_scale=_coins(price, size_scale),
        levels=levels,
        params=params,
        shocks=_shocks(scenario, seed, seconds) if shocks is None else _in_order(shocks),
    )


def _market(
    seed: int, maker: Maker | None, book: Book | None, params: MarketParams | None
) -> tuple[str, str, MarketParams]:
    if params is not None:
        if maker is not None or book is not None:
            raise ParameterError("params already say what maker and book are", found=f"maker={maker!r}, book={book!r}")
        return "given", "given", params
    design = maker if maker is not None else MAKERS[int(Draw(seed, "market").unit("maker") * len(MAKERS))]
    kind: Book = book if book is not None else "shallow"
    _one_of("maker", design, MAKERS)
    _one_of("book", kind, BOOKS)
    return design, kind, MarketParams.draw(seed, maker=design, book=kind)


def _shocks(scenario: Scenario, seed: int, duration: float) -> tuple[Shock, ...]:
    slots = max(1, round(duration / _SLOT))
    length = duration / slots
    return tuple(Shock.draw(scenario, seed, slot=i, begin=i * length, length=length) for i in range(slots))


def _in_order(shocks: tuple[Shock, ...]) -> tuple[Shock, ...]:
    begins = [shock.begin for shock in shocks]
    _require("shocks", begins, begins == sorted(begins), "in the order of begin")
    return tuple(shocks)


def _whole_steps(duration: float) -> float:
    whole = math.isfinite(duration) and math.isclose(duration / STEP, round(duration / STEP), rel_tol=1e-9)
    _require("duration", duration, whole and duration >= STEP, "a multiple of 0.1 s, at least 0.1")
    return round(duration / STEP) / 10.0


def _check_grids(price: float, tick: float, lot: float, size_scale: float | None) -> None:
    for name, value in (("price", price), ("tick", tick), ("lot", lot), ("size_scale", size_scale)):
        _require(name, value, value is None or 0.0 < value < math.inf, "a number > 0")
    _require("tick", tick, tick <= 1e-3 * price, f"at most 10 bps of the price {price:g}")
    median = 0.15 * _coins(price, size_scale)
    _require("lot", lot, lot <= median, f"at most a median order, {median:g}")


def _coins(price: float, size_scale: float | None) -> float:
    return _REFERENCE_PRICE / price if size_scale is None else float(size_scale)


def _one_of(name: str, value: object, names: tuple[str, ...]) -> None:
    _require(name, value, value in names, f"one of {', '.join(names)}")


def _require(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ParameterError(f"{name} is out of range", found=value, expected=expected)


def _clock(rows: NDArray[Any]) -> dict[str, pl.Series]:
    return _clock_of(rows["ts"].copy())


def _clock_of(times: NDArray[np.int64]) -> dict[str, pl.Series]:
    ts = pl.Series(times).cast(TIME)
    return {"ts": ts, "ts_event": ts}


def _on_grid(units: NDArray[Any], step: float) -> NDArray[np.float64]:
    """Multiples of a decimal step: one exact product and one division, so each is the double nearest to its decimal."""
    _, digits, exponent = Decimal(repr(step)).as_tuple()
    whole = units * float("".join(map(str, digits)))
    power = int(exponent)
    return np.asarray(whole * 10.0**power if power >= 0 else whole / 10.0**-power)
