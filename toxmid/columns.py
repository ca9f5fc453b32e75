"""What the columns of the output tables are: unit, meaning, and the paper where there is one.

Examples
--------
>>> import toxmid
>>> [(column.name, column.unit) for column in toxmid.columns.BARS][-2:]
[('sweeps', '1'), ('sweep_volume', 'base coin')]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BARS", "BUCKETS", "EVENTS", "Column"]


@dataclass(frozen=True)
class Column:
    """One column of an output table.

    Attributes
    ----------
    name, unit, meaning : str
    source : str
        DOI of the paper that defines it, where there is one.
    """

    name: str
    unit: str
    meaning: str
    source: str = ""


# In the order of the table. Not ready, not known: null. A bar covers (ts - bar, ts]; all of it was known at `ts`.
BARS: Final[tuple[Column, ...]] = (
    Column("ts", "UTC", "end of the bar"),
    Column("bid", "quote currency", "best bid at the end; with trades only, the lower of the last taker sell and buy"),
    Column("bid_size", "base coin", "size at the best bid"),
    Column("ask", "quote currency", "best ask at the end; with trades only, the higher of the last taker sell and buy"),
    Column("ask_size", "base coin", "size at the best ask"),
    Column("mid", "quote currency", "(bid + ask) / 2; null while the touch is one-sided, locked or crossed"),
    Column("spread_bps", "bps", "quoted spread at the end, 1e4 ln(ask / bid)"),
    Column("spread_mean_bps", "bps", "quoted spread of the mid, time-weighted over the bar",
           "10.1111/j.1540-6261.1992.tb04408.x"),
    Column("effective_spread_bps", "bps", "2 side (price - mid before the order), size-weighted over the bar",
           "10.1016/0304-405X(95)00867-E"),
    Column("price", "quote currency", "last trade so far"),
    Column("trades", "1", "prints in the bar"),
    Column("buy_volume", "base coin", "bought by takers"),
    Column("sell_volume", "base coin", "sold by takers"),
    Column("unknown_volume", "base coin", "of unknown side"),
    Column("liq_buy_volume", "base coin", "forced buys: of the feed; inferred where there is none, and null for what "
           "traded before anything can be inferred"),
    Column("liq_sell_volume", "base coin", "forced sells, likewise"),
    Column("imbalance", "-1 to 1", "signed over total taker volume, that of unknown side included: sums that fade by "
           "exp(-t / Params.imbalance_memory), 30 s, at the end of each step", "10.1016/S0304-405X(02)00136-8"),
    Column("imbalance_short", "-1 to 1", "the same with Params.imbalance_short, 10 s"),
    Column("imbalance_long", "-1 to 1", "the same with Params.imbalance_long, 60 s"),
    Column("ofi", "base coin", "order-flow imbalance at the touch, sum over the bar; a side that empties takes "
           "its size with it; null without a touch",
           "10.1093/jjfinec/nbt003"),
    Column("depth_bid", "base coin", "resting within Params.depth_bps below the mid"),
    Column("depth_ask", "base coin", "resting within Params.depth_bps above the mid"),
    Column("vpin", "0 to 1", "of the last buckets closed by then", "10.1093/rfs/hhs053"),
    Column("vpin_rank", "0 to 1", "share of the values of the Params.rank_days before it that lie below it",
           "10.3233/AF-13030"),
    Column("vpin_lo", "0 to 1", "least VPIN over Params.vpin_offsets starts of the volume clock; where that is over 1",
           "10.4236/jmf.2019.94032"),
    Column("vpin_hi", "0 to 1", "greatest, likewise"),
    Column("spread_z", "robust sigmas", "ln(spread with Params.spread_memory, 10 s) against this time of day on 28 "
           "days: (x - median) / (1.4826 MAD + floor), the floor half a tick, or 0.1 where none is known"),
    Column("impact_bps", "bps", "60 s log return of the mid"),
    Column("bps_per_volume", "bps per base coin", "|impact_bps| over the volume of these 60 s"),
    Column("excess_impact", "1", "|impact_bps| over what the square-root law expects of that volume",
           "10.1142/S2382626615500082"),
    Column("toxicity", "0 to 1", "liquidation-driven share of the volume, 30 s memory"),
    Column("toxic_mean", "quote currency", "mean price of the toxic flow: size x weight x memory"),
    Column("debiased_mean", "quote currency", "the same without half spreads, own sweeps and the displacement met"),
    Column("implied_mid", "quote currency", "the maker's own mid"),
    Column("implied_lo", "quote currency", "lower end of its 90 % interval"),
    Column("implied_hi", "quote currency", "upper end of its 90 % interval"),
    Column("asymmetry_bps", "bps", "term of the implied mid: what the untouched side says"),
    Column("volume_bps", "bps", "term: how far the mid has run ahead of what volume supports"),
    Column("credibility_bps", "bps", "term: how much farther back the last credible price lies"),
    Column("toxic_bps", "bps", "term: the way to the de-biased toxic mean"),
    Column("reference_bps", "bps", "term: what the corridor of other venues takes off"),
    Column("reference_mid", "quote currency", "where other venues put our mid together"),
    Column("reference_width_bps", "bps", "how far to either side of it they allow the implied mid to be"),
    Column("credibility", "0 to 1", "of the price of the moment: 1 / rho^2 at a spread rho times the usual one; null "
           "without an implied mid"),
    Column("memory", "s", "half-life of the toxic means at today's credibility"),
    Column("regime", "", "calm, stress-labelled, stress-inferred, one-sided book or halted"),
    Column("weighted_mid", "quote currency", "(ask x bid size + bid x ask size) / sizes",
           "10.1016/j.jfineco.2021.04.018"),
    Column("sign_acf_1", "1", "autocorrelation of the signs of taker orders, one order apart",
           "10.1080/14697680400000022"),
    Column("sign_acf_10", "1", "ten orders apart"),
    Column("sign_acf_100", "1", "a hundred orders apart"),
    Column("kyle_lambda", "bps per unit", "how far a base coin (contract where inverse) of net taker flow moves it: "
           "least squares on Params.lambda_bar with forgetting", "10.2307/1913210"),
    Column("liq_branching", "0 to 1", "branching ratio of liquidations: 1 - sqrt(mean / variance) of 60 s counts. A "
           "throttled feed shows less", "10.1103/PhysRevE.90.062807"),
    Column("liq_branching_excess", "1", "the same less its trailing 7-day median"),
    Column("open_interest", "base coin", "as last published"),
    Column("closing_share", "0 to 1", "fall of the open interest over the taker volume of the larger side, in the last "
           "window between two figures of it"),
    *(Column(f"depth_{side}_{bps}bps", "base coin", f"resting within {bps} bps of the mid")
      for side in ("bid", "ask") for bps in (1, 5, 10, 25, 50)),
    Column("round_trip_bps", "bps", "1e4 ln(mean price of buying / of selling) Params.cost_size; null where the book "
           "shown is not deep enough", "10.1111/j.1468-036X.2013.12006.x"),
    Column("bid_added", "base coin", "put within Params.depth_bps of the mid that stood when the second began; depth "
           "there = before + added - traded - cancelled"),
    Column("bid_traded", "base coin", "what went from there and traded"),
    Column("bid_cancelled", "base coin", "what went from there and did not trade"),
    Column("ask_added", "base coin", "the same of the asks"),
    Column("ask_traded", "base coin", ""),
    Column("ask_cancelled", "base coin", ""),
    Column("cancel_share", "0 to 1", "cancelled over cancelled and traded, both sides"),
    Column("sweeps", "1", "taker orders (prints of one time and side) that traded at two prices or more, or more than "
           "rested at the best one"),
    Column("sweep_volume", "base coin", "taken by them"),
)  # fmt: skip

# One row per closed volume bucket, in the order in which they closed.
BUCKETS: Final[tuple[Column, ...]] = (
    Column("bucket", "1", "number, from 0"),
    Column("ts_open", "UTC", "of the trade with which it opened; with bulk classification, the end of the bar"),
    Column("ts_close", "UTC", "of the one that filled it: all of the row was known then"),
    Column("volume", "base coin", "the bucket volume as it stood when the bucket opened"),
    Column("buy_volume", "base coin", "bought by takers"),
    Column("sell_volume", "base coin", "sold by takers"),
    Column("unknown_volume", "base coin", "of unknown side"),
    Column("imbalance", "-1 to 1", "(bought - sold) / volume"),
    Column("vpin", "0 to 1", "sum of |bought - sold| over the volume of the last Params.window buckets, this one the "
           "last", "10.1093/rfs/hhs053"),
    Column("vpin_rank", "0 to 1", "share of the values of the Params.rank_days before it that lie below it",
           "10.3233/AF-13030"),
    Column("vpin_lo", "0 to 1", "least VPIN over Params.vpin_offsets starts of the volume clock, when all of them had "
           "taken the trade that filled the bucket; where that is over 1", "10.4236/jmf.2019.94032"),
    Column("vpin_hi", "0 to 1", "greatest, likewise"),
    Column("price", "quote currency", "last"),
    Column("vwap", "quote currency", "mean price, weighted by size"),
    Column("spread_bps", "bps", "quoted spread that its trades met, of the mid, weighted by size; null where none met "
           "one"),
    Column("impact_bps", "bps", "log return from the last price of the bucket before"),
    Column("liq_buy_volume", "base coin", "forced buys that became known in it: of the feed; inferred where there is "
           "none"),
    Column("liq_sell_volume", "base coin", "forced sells, likewise"),
)  # fmt: skip

# One row per closed episode, in the order in which they closed.
EVENTS: Final[tuple[Column, ...]] = (
    Column("kind", "", "widening (cumulated excess of spread_z), sweep, vacuum or liquidation_cascade",
           "10.1093/biomet/41.1-2.100"),
    Column("ts_start", "UTC", "the last quiet second before it"),
    Column("ts_end", "UTC", "the last second of it"),
    Column("ts_known", "UTC", "when it was known to be over"),
    Column("side", "+1, -1, 0", "of the move; of the forced flow for a cascade"),
    Column("move_bps", "bps", "farthest displacement of the mid from where it stood before; null where there was none"),
    Column("volume", "base coin", "traded in it"),
    Column("bps_per_volume", "bps per base coin", "|move_bps| / volume"),
    Column("liq_volume", "base coin", "of it, liquidation-driven"),
    Column("toxic_mean", "quote currency", "at ts_end, as the next two"),
    Column("debiased_mean", "quote currency", ""),
    Column("implied_mid", "quote currency", ""),
    Column("mid_before", "quote currency", "at ts_start"),
    Column("mid_after", "quote currency", "at ts_known"),
    Column("peak", "", "largest value of what triggers the kind: z, calm sigmas, or normal volumes"),
    Column("depth_share", "1", "|net taker flow| over the depth within Params.depth_bps on the side that was hit, as "
           "it stood before; null without a book"),
    Column("cancelled_share", "0 to 1", "of the depth that went from that side: cancelled, not traded"),
    Column("gap", "flag", "nothing traded at all"),
    Column("ts_tightened", "UTC", "of a widening: the first second from which the spread stayed narrow (z within "
           "Params.widening_drift) until ts_known; ts_end is where its cumulated excess was gone"),
)
