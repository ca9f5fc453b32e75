"""A replay in a page of text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from toxmid.impact import stress_over_calm

if TYPE_CHECKING:
    from toxmid.replay import Replay

__all__ = ["summarise"]

_MOST_EPISODES = 8
_NO_ROWS = "none: the files hold no rows"
_TEN_SECONDS = 10 * 10**9
_NOUNS = (("bars", "bar"), ("buckets", "bucket"), ("events", "episode"))


def _moment(time: dt.datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def _price(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _bps(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _lines(pairs: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in pairs)
    return [f"{name:<{width}}  {value}" for name, value in pairs]


def _market(replay: Replay) -> str:
    instrument = replay.instrument
    name = " ".join(part for part in (instrument.venue, instrument.symbol) if part) or "unnamed market"
    facts = []
    for field in ("tick", "lot", "contract_value"):
        value = getattr(instrument, field)
        if value is not None:
            facts.append(f"{field.replace('_', ' ')} {value:g} ({instrument.origin[field]})")
    facts.append("inverse" if instrument.inverse else "linear")
    return f"{name}: {', '.join(facts)}"


def _count(table: pl.DataFrame, noun: str) -> str:
    return f"{table.height:,} {noun}{'' if table.height == 1 else 's'}"


def _nothing(replay: Replay) -> str:
    """Why there is not one bar."""
    if not replay.counts["rows_read"]:
        others = replay.counts["rows_of_other_kinds"]
        return f"none: the files hold no rows of this kind ({others:,} of others)" if others else _NO_ROWS
    return "none: every row was left out" if not replay.counts["rows_used"] else "none: no bar ended"


def _rejected(replay: Replay) -> str:
    reasons = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in replay.counts["rejected"].items())
    return f"; left out: {reasons}" if reasons else "; none left out"


def _events_left_out(replay: Replay) -> list[tuple[str, str]]:
    """What the engine refused of inputs of which a row gives many events, where no row stands for it."""
    lines = []
    for name, entry in replay.counts.get("by_input", {}).items():
        refused = {reason: n for reason, n in entry["events_rejected"].items() if n and reason not in entry["rejected"]}
        if refused:
            reasons = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in refused.items())
            share = "all" if not entry["events_used"] else f"{sum(refused.values()):,}"
            lines.append((f"events of {name}", f"{share} of {entry['events']:,} left out: {reasons}"))
    return lines


def _largest(replay: Replay) -> pl.DataFrame:
    """The episodes with the largest moves, in order of time."""
    ranked = replay.events.sort(pl.col("move_bps").abs(), descending=True, nulls_last=True).head(_MOST_EPISODES)
    return ranked.sort("ts_start")


def _episodes(replay: Replay) -> list[str]:
    if replay.events.height == 0:
        return ["no episode"]
    lines = [
        f"{'episode':<20}{'start (UTC)':<21}{'seconds':>8}{'move bps':>10}{'quoted':>12}{'toxic mean':>12}"
        f"{'de-biased':>12}{'implied':>12}{'mid after':>12}"
    ]
    quoted = dict(replay.bars.select("ts", "mid").iter_rows())
    for row in _largest(replay).iter_rows(named=True):
        seconds = (row["ts_end"] - row["ts_start"]).total_seconds()
        lines.append(
            f"{row['kind'].replace('_', ' '):<20}{_moment(row['ts_start']):<21}{seconds:>8.0f}"
            f"{_bps(row['move_bps']):>10}{_price(quoted.get(row['ts_end'])):>12}{_price(row['toxic_mean']):>12}"
            f"{_price(row['debiased_mean']):>12}{_price(row['implied_mid']):>12}{_price(row['mid_after']):>12}"
        )
    more = replay.events.height - _MOST_EPISODES
    return lines + ([f"... and {more} smaller ones"] if more > 0 else [])


def _share(flags: pl.Series) -> float:
    return float(flags.sum()) / max(flags.len(), 1)


def _feed(feed: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """How complete the liquidation feed was, where there was one."""
    if feed is None:
        return []
    shares = [
        f"{feed[name]:.0%} {what}"
        for name, what in (
            ("matched_share", "found among the trades"),
            ("published_of_inferred", "of what was inferred"),
            ("published_of_open_interest", "of what the open interest fell"),
        )
        if feed[name] is not None
    ]
    volume = f"{feed['records']:,} records of {feed['published_volume']:,.6g}: {', '.join(shares)}"
    limit = "; never more than one a second" if feed["most_per_second"] == 1 and feed["records"] > 1 else ""
    lines = [("liquidations", volume + limit)]
    if feed.get("doubtful"):
        lines.append(("", "is their side that of the position, or their clock or market not that of the trades?"))
    return lines


def _stress_over_calm(replay: Replay) -> str:
    # Ten seconds, or the bars as they are where they do not add up to that.
    ratio = stress_over_calm(replay.bars, bar="10s" if _TEN_SECONDS % replay.params.bar_ns == 0 else replay.params.bar)
    return "stress and calm cannot be told apart" if ratio is None else f"under stress {ratio:,.3g} times that of calm"


def summarise(replay: Replay) -> str:
    """What was read, what was seen, what was inferred, as text for a terminal."""
    bars = replay.bars
    regimes = dict(bars["regime"].value_counts().iter_rows())
    distance = 1e4 * (bars["implied_mid"].log() - bars["mid"].log())
    counts = replay.events["kind"].value_counts().sort("kind") if replay.events.height else None
    named = counts.iter_rows() if counts is not None else ()
    kinds = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in named) or "none"
    first, last = (bars["ts"][0], bars["ts"][-1]) if bars.height else (None, None)
    ranks = bars["vpin_rank"].drop_nulls()
    farthest = cast("float | None", distance.abs().max())
    pairs = [
        ("market", _market(replay)),
        ("period", f"{_moment(first)} to {_moment(last)} UTC" if bars.height else _nothing(replay)),
        ("rows", f"{replay.counts['rows_read']:,} read, {replay.counts['rows_used']:,} used{_rejected(replay)}"),
        *_events_left_out(replay),
        ("tables", ", ".join(_count(getattr(replay, table), noun) for table, noun in _NOUNS)),
        ("regimes", ", ".join(f"{name} {n / bars.height:.1%}" for name, n in sorted(regimes.items())) or "none"),
        ("episodes", kinds),
        ("VPIN rank", f"above 99 % in {_share(ranks > 0.99):.1%} of ranked bars" if ranks.len() else "not ready"),
        *_feed(replay.manifest.get("liquidation_feed")),
        ("impact per volume", _stress_over_calm(replay)),
        ("implied mid", "not ready" if farthest is None else f"up to {farthest:,.1f} bps from the quoted mid"),
    ]
    return "\n".join([*_lines(pairs), "", *_episodes(replay)])
