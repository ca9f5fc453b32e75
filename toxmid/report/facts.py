"""What the report says in words and tables: key figures, episodes, counts and the rest of the manifest."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from toxmid.impact import stress_over_calm
from toxmid.progress import format_seconds

__all__ = [
    "Cell", "Figure", "Row", "duration", "episode_rows", "flatten", "inputs", "instrument", "key_figures", "kinds",
    "number", "plain", "price_decimals", "tells_cancelled", "time_of", "warm_up",
]  # fmt: skip

NOTHING: Final = "–"
IMPACT: Final = "Impact, stress over calm"
_TEN_SECONDS: Final = 10 * 10**9
# The share of past VPIN values that the literature uses as its alarm.
ALARM_RANK: Final = 0.99
CALM: Final = frozenset({"calm"})
STRESS: Final = "stress"  # how the names of the regimes under stress begin
# No count is as large: a whole number from here on is a time in nanoseconds (1973 on).
_TIMES_FROM: Final = 10**17

KINDS: Final = {
    "liquidation_cascade": "liquidation cascade",
    "sweep": "sweep",
    "vacuum": "vacuum",
    "widening": "widening",
}
_EMPTY_UNITS: Final = ((" 00 h", ""), (" 00 min", ""), (" 0 s", ""), (".0 s", " s"))
SIDES: Final = {1: "buy", -1: "sell", 0: "both"}


@dataclass(frozen=True)
class Figure:
    """A key figure: what it is, its value, and what to know about it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of the table of episodes; `order` is what the column is sorted by."""

    text: str
    order: float | str | None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """An episode: its cells, its kind, and the stretch of time to show when it is chosen (Unix seconds)."""

    kind: str
    cells: Sequence[Cell]
    start: float
    end: float
    view: tuple[float, float]
    in_full: bool = field(default=True)


# --- writing numbers --------------------------------------------------------------------------------------------------


def number(value: float | None, decimals: int | None = None) -> str:
    """Write a number with a comma between thousands; a true minus; a dash for what is not known.

    Without `decimals` four significant digits are kept, two decimals at most from one upwards.

    >>> [number(x) for x in (1234567.0, 12.3456, -0.01234, 0.0, None)]
    ['1,234,567', '12.35', '−0.01234', '0', '–']
    >>> number(-1234.5, 2), number(-0.001, 2)
    ('−1,234.50', '0.00')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if decimals is None:
        wanted = 3 - math.floor(math.log10(abs(value))) if value else 0
        decimals = min(max(wanted, 0), 2 if abs(value) >= 1 else 12)
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−") if any(digit in text for digit in "123456789") else text.lstrip("-")


def price_decimals(tick: Any, price: float | None) -> int:
    """Return the decimals of a price: those of the tick, else those that make six significant digits.

    >>> price_decimals(0.25, 5000.0), price_decimals(None, 61_234.5), price_decimals(1e-7, 0.0001)
    (2, 1, 7)
    """
    if isinstance(tick, (int, float)) and 0 < tick < math.inf:
        return next((n for n in range(13) if math.isclose(round(tick, n), tick, rel_tol=1e-9)), 12)
    return max(0, 5 - math.floor(math.log10(price))) if price and price > 0 else 2


def percent(share: float | None) -> str:
    """Write a share in percent; what is not zero never looks like zero.

    >>> [percent(x) for x in (0.1234, 0.00001, 0.0, None)]
    ['12.3 %', '< 0.1 %', '0 %', '–']
    """
    if share is None or not math.isfinite(share):
        return NOTHING
    return "0 %" if share == 0 else "< 0.1 %" if share < 0.0005 else f"{share * 100:.1f} %"


def duration(ns: int | None) -> str:
    """Write a length of time given in nanoseconds, without a second unit that says nothing.

    >>> [duration(int(x * 1e9)) for x in (1, 0.25, 34.5, 3600, 5400, 86_400)]
    ['1 s', '0.25 s', '34.5 s', '1 h', '1 h 30 min', '1 d']
    """
    if ns is None:
        return NOTHING
    text = format_seconds(ns / 1e9)
    return next((text.removesuffix(end) + tail for end, tail in _EMPTY_UNITS if text.endswith(end)), text)


def time_of(ns: int | None, *, day: bool = True) -> str:
    """Write a Unix time in nanoseconds as UTC, with as many decimals of the second as it needs, three at most.

    >>> time_of(1_760_130_780_250_000_000), time_of(1_760_130_780_000_000_000, day=False)
    ('2025-10-10 21:13:00.250', '21:13:00')
    """
    if ns is None:
        return NOTHING
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    decimals = f".{rest // 1_000_000:03d}" if rest >= 1_000_000 else ""
    return moment.strftime("%Y-%m-%d %H:%M:%S" if day else "%H:%M:%S") + decimals


def size_of_file(count: Any) -> str:
    """Write a number of bytes.

    >>> [size_of_file(x) for x in (512, 20_480, 3_221_225_472, None)]
    ['512 B', '20.5 kB', '3.2 GB', '–']
    """
    if not isinstance(count, int):
        return NOTHING
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


# --- key figures ------------------------------------------------------------------------------------------------------


def key_figures(
    bars: pl.DataFrame,
    gap: pl.Series,
    events: pl.DataFrame,
    counts: Mapping[str, Any],
    bar_ns: int,
    feed: Mapping[str, Any] | None = None,
) -> list[Figure]:
    """Return the figures at the head of the report.

    `gap` is implied minus quoted mid in bps, for each bar; `feed` how complete the liquidation feed was, None where
    there was none.
    """
    times = bars["ts"].cast(pl.Int64)
    return [
        *_rows_used(counts),
        _toxic_share(bars),
        _episodes(events),
        _widening(bars, times),
        _farthest(bars, gap, times),
        _stress(bars, bar_ns),
        _alarm(bars, bar_ns),
        _impact(bars, bar_ns),
        *_feed(feed),
    ]


def _rows_used(counts: Mapping[str, Any]) -> Iterator[Figure]:
    used, read = counts.get("rows_used"), counts.get("rows_read")
    if used is not None:
        yield Figure("Rows used", plain(used), f"of {plain(read)} read" if read is not None else "")


def _toxic_share(bars: pl.DataFrame) -> Figure:
    sides = ("buy_volume", "sell_volume", *(["unknown_volume"] if "unknown_volume" in bars.columns else []))
    total, forced = _total(bars, sides), _total(bars, ("liq_buy_volume", "liq_sell_volume"))
    share = forced / total if total else None
    return Figure("Toxic share of volume", percent(share), f"liquidation-driven: {number(forced)} of {number(total)}")


def _episodes(events: pl.DataFrame) -> Figure:
    count = events.group_by("kind").len().sort("len", "kind", descending=[True, False])
    parts = [f"{n} {KINDS.get(kind, kind)}" for kind, n in count.iter_rows()]
    return Figure("Episodes", f"{events.height:,}", ", ".join(parts) or "none closed")


def _widening(bars: pl.DataFrame, times: pl.Series) -> Figure:
    at = _arg_max(bars["spread_bps"])
    if at is None:
        return Figure("Widest spread", NOTHING)
    z, spread = bars["spread_z"][at], bars["spread_bps"][at]
    known = f"z {number(z, 1)}, " if z is not None and math.isfinite(z) else ""
    return Figure("Widest spread", f"{number(spread)} bps", f"{known}at {time_of(times[at], day=False)}")


def _farthest(bars: pl.DataFrame, gap: pl.Series, times: pl.Series) -> Figure:
    at = _arg_max(gap.abs())
    if at is None:
        return Figure("Max |implied − mid|", NOTHING)
    side = "above" if gap[at] > 0 else "below"
    where = f"implied {side} quoted, at {time_of(times[at], day=False)}{_means(bars, at)}" if gap[at] else "never apart"
    return Figure("Max |implied − mid|", f"{number(gap[at])} bps", where)


def _means(bars: pl.DataFrame, at: int) -> str:
    """How far the two means of the toxic flow were from the quoted mid at the same moment."""
    mid = bars["mid"][at]
    distances = {
        name: 1e4 * math.log(bars[column][at] / mid)
        for name, column in (("toxic mean", "toxic_mean"), ("de-biased", "debiased_mean"))
        if bars[column][at] is not None and bars[column][at] > 0
    }
    return "".join(f"; {name} {f'{distance:+,.1f}'.replace('-', '−')}" for name, distance in distances.items())


def _stress(bars: pl.DataFrame, bar_ns: int) -> Figure:
    regime = bars["regime"].cast(pl.String).drop_nulls()
    count = int(regime.str.starts_with(STRESS).sum())
    share = count / regime.len() if regime.len() else None
    return Figure("Time in stress", percent(share), f"{duration(count * bar_ns)} of {duration(regime.len() * bar_ns)}")


def _alarm(bars: pl.DataFrame, bar_ns: int) -> Figure:
    rank = bars["vpin_rank"].fill_nan(None).drop_nulls()
    label = f"VPIN rank ≥ {ALARM_RANK * 100:.0f} %"
    if not rank.len():
        return Figure(label, NOTHING, "no rank yet: too little history")
    count = int((rank >= ALARM_RANK).sum())
    note = f"{duration(count * bar_ns)} of {duration(rank.len() * bar_ns)} ranked"
    return Figure(label, percent(count / rank.len()), note)


def _impact(bars: pl.DataFrame, bar_ns: int) -> Figure:
    # Ten seconds, or the bars as they are where they do not add up to that.
    ratio = stress_over_calm(bars, bar="10s" if _TEN_SECONDS % bar_ns == 0 else f"{bar_ns}ns")
    if ratio is None:
        return Figure(IMPACT, NOTHING, "Too few bars with flow in calm or under stress to tell the two apart.")
    return Figure(IMPACT, f"{number(ratio)} ×", "How much farther a unit of net taker flow moves the mid under stress.")


def _feed(feed: Mapping[str, Any] | None) -> Iterator[Figure]:
    """How much of the forced volume was published: by the open interest where it is known, else by what is inferred."""
    if not feed:
        return
    matched, records = percent(feed.get("matched_share")), plain(feed.get("records"))
    fallen = feed.get("published_of_open_interest")
    share = feed.get("published_of_inferred") if fallen is None else fallen
    against = "inferred from the market" if fallen is None else "by which the open interest fell"
    slow = feed.get("most_per_second") == 1 and feed.get("records", 0) > 1
    limit = ", and never two records came in one second" if slow else ""
    found = f"{matched} of it, in {records} records, was found among the trades{limit}."
    doubt = " Is their side that of the position, or their clock or market another?" if feed.get("doubtful") else ""
    yield Figure("Liquidation feed", percent(share), f"Published volume over that {against}; {found}{doubt}")


def _total(bars: pl.DataFrame, names: Sequence[str]) -> float:
    return float(bars.select(pl.sum_horizontal(pl.col(names).cast(pl.Float64).fill_nan(None).sum())).item())


def _arg_max(values: pl.Series) -> int | None:
    return values.cast(pl.Float64).fill_nan(None).arg_max()


# --- episodes ---------------------------------------------------------------------------------------------------------

ESTIMATES: Final = ("toxic_mean", "debiased_mean", "implied_mid")


def kinds(events: pl.DataFrame) -> dict[str, str]:
    """Return the kinds of episode that occur, each with its name in words."""
    return {kind: KINDS.get(kind, kind) for kind in events["kind"].cast(pl.String).unique().sort()}


def tells_cancelled(events: pl.DataFrame) -> bool:
    """Whether of any episode it is known how much of the depth was cancelled: whether there was a book."""
    return "cancelled_share" in events.columns and bool(events["cancelled_share"].is_not_null().any())


def episode_rows(
    events: pl.DataFrame,
    mid_at_end: pl.Series,
    decimals: int,
    views: Sequence[tuple[float, float]],
    in_full: Sequence[bool],
) -> list[Row]:
    """Return the rows of the table of episodes, in the order of `events`."""
    times = [name for name in ("ts_start", "ts_end", "ts_tightened") if name in events.columns]
    records = events.with_columns(pl.col(times).cast(pl.Int64), mid_at_end.alias("_mid_at_end"))
    cancelled = tells_cancelled(events)
    return [
        _episode(record, decimals, view, full, cancelled)
        for record, view, full in zip(records.iter_rows(named=True), views, in_full, strict=True)
    ]


def _episode(
    record: Mapping[str, Any], decimals: int, view: tuple[float, float], in_full: bool, cancelled: bool
) -> Row:
    start, end, kind = record["ts_start"], record["ts_end"], str(record["kind"])
    mid = record["_mid_at_end"]
    cells = [
        Cell(KINDS.get(kind, kind), kind, "gap: nothing traded" if record.get("gap") else ""),
        Cell(time_of(start, day=False), start, time_of(start)[:10]),
        _end(record),
        Cell(duration(end - start), end - start),
        Cell(SIDES.get(record["side"], NOTHING), record["side"]),
        *(_amount(record[name]) for name in ("move_bps", "volume", "bps_per_volume", "liq_volume")),
        _price(record["mid_before"], None, decimals),
        *(_price(record[name], mid, decimals) for name in ESTIMATES),
        _price(mid, None, decimals),
        _price(record["mid_after"], None, decimals),
        *([Cell(percent(record["cancelled_share"]), record["cancelled_share"])] if cancelled else []),
    ]
    return Row(kind, cells, start / 1e9, end / 1e9, view, in_full)


def _end(record: Mapping[str, Any]) -> Cell:
    """Return the end, with its day where it is another, and since when the spread had been narrow again."""
    end, tightened = record["ts_end"], record.get("ts_tightened")
    day = "" if time_of(end)[:10] == time_of(record["ts_start"])[:10] else time_of(end)[:10]
    narrow = "" if tightened is None else f"narrow from {time_of(tightened, day=False)}"
    return Cell(time_of(end, day=False), end, ", ".join(filter(None, (day, narrow))))


def _amount(value: float | None) -> Cell:
    return Cell(number(value), value)


def _price(value: float | None, mid: float | None, decimals: int) -> Cell:
    """Return a price, and below it how far it is from the quoted mid of the same moment."""
    known = all(price is not None and math.isfinite(price) and price > 0 for price in (value, mid))
    note = f"{1e4 * math.log(value / mid):+,.1f} bps".replace("-", "−") if known and value and mid else ""
    return Cell(number(value, decimals), value, note)


# --- manifest ---------------------------------------------------------------------------------------------------------


def flatten(entries: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of every leaf of nested mappings and lists.

    >>> list(flatten({"trades": {"read": 7, "rejected": {"bad price": 1}}}))
    [('trades · read', 7), ('trades · rejected · bad price', 1)]
    """
    if isinstance(entries, Mapping):
        for key, entry in entries.items():
            yield from flatten(entry, f"{path} · {key}" if path else str(key))
    elif isinstance(entries, (list, tuple)) and any(isinstance(entry, (Mapping, list)) for entry in entries):
        for position, entry in enumerate(entries, 1):
            yield from flatten(entry, f"{path} · {position}" if path else str(position))
    else:
        yield path, entries


def plain(value: Any) -> str:
    """Write a value of the manifest as a person reads it.

    >>> [plain(x) for x in (True, 12345, 0.1, None, ["1s", "5s"], 1_760_130_780_000_000_000)]
    ['yes', '12,345', '0.1', '–', '1s, 5s', '2025-10-10 21:13:00 UTC']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{time_of(value)} UTC" if value >= _TIMES_FROM else f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        return f"{value:,.10g}".replace("-", "−")
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(entry) for entry in value) or NOTHING
    return NOTHING if value is None or value == "" else str(value)


def instrument(entries: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value and origin of each fact about the instrument."""
    origin = entries.get("origin") or {}
    return [
        (name.replace("_", " "), plain(value), str(origin.get(name, "")))
        for name, value in entries.items()
        if name != "origin"
    ]


def inputs(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return kind, path, size and checksum of each input."""
    return [
        {
            "kind": str(entry.get("kind") or NOTHING),
            "path": str(entry.get("path") or "a table in memory"),
            "size": size_of_file(entry.get("bytes")),
            "sha256": str(entry.get("sha256") or ""),
        }
        for entry in entries
    ]


def warm_up(entries: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each trailing reference how full its history was: a share where it can be told, else only words."""
    rows = []
    for name, entry in entries.items():
        row: dict[str, Any] = {"name": name.replace("_", " "), "share": None, "text": ""}
        if isinstance(entry, Mapping) and _positive(entry.get("needs")) and isinstance(entry.get("has"), (int, float)):
            row["share"] = min(max(entry["has"] / entry["needs"], 0.0), 1.0)
            row["text"] = f"{plain(entry['has'])} of {plain(entry['needs'])} {entry.get('unit', '')}".strip()
        elif isinstance(entry, Mapping):
            row["text"] = ", ".join(f"{key} {plain(value)}" for key, value in flatten(entry))
        else:
            row["text"] = plain(entry)
        rows.append(row)
    return rows


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0
