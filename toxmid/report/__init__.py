"""One HTML file that shows a replay: panels over time, the table of episodes, and where every number came from.

The report estimates nothing of its own. It thins the bars for the screen (whole rows, extremes kept, every episode
in full) and writes numbers down. The file asks no network for anything, and equal input gives equal bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray

from toxmid import output
from toxmid.errors import DataError
from toxmid.report import facts
from toxmid.report.sections import Section
from toxmid.report.series import PANELS, columns_of, layout
from toxmid.report.thin import fit_windows, pack, runs, select_rows

__all__ = ["Section", "render_report", "report_directory", "write_report"]

BARS: Final = (
    "ts", "bid", "ask", "mid", "spread_bps", "trades", "buy_volume", "sell_volume", "liq_buy_volume", "liq_sell_volume",
    "vpin", "vpin_rank", "spread_z", "impact_bps", "excess_impact", "toxic_mean", "debiased_mean", "implied_mid",
    "implied_lo", "implied_hi", "regime",
)  # fmt: skip
BUCKETS: Final = ("bucket", "ts_open", "ts_close", "volume")
EVENTS: Final = (
    "kind", "ts_start", "ts_end", "ts_known", "side", "move_bps", "volume", "bps_per_volume", "liq_volume",
    "toxic_mean", "debiased_mean", "implied_mid", "mid_before", "mid_after",
)  # fmt: skip

# Around an episode: what is shown when it is chosen, and what is drawn in full, in bars and in shares of its length.
_VIEW: Final = (30, 0.6)
_WINDOW: Final = (60, 0.75)
# A browser needs longer for a thousand cells than for a million points.
_EPISODES_LISTED: Final = 250
_EPISODES_MARKED: Final = 5_000


def write_report(
    bars: pl.DataFrame,
    buckets: pl.DataFrame,
    events: pl.DataFrame,
    manifest: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    truth: pl.DataFrame | None = None,
    sections: Sequence[Section] = (),
) -> Path:
    """Write the report of a replay to one HTML file.

    Parameters
    ----------
    bars, buckets, events : polars.DataFrame
        The tables of a replay. Further columns are allowed.
    manifest : mapping
        As :func:`toxmid.output.build_manifest` gives it. What it lacks, the report leaves out.
    path : path
        File to write. An existing file is replaced in one step.
    truth : polars.DataFrame, optional
        Columns `ts`, `mid`: the true mid, where it is known because the market was simulated.
    sections : sequence of Section
        What else the report shows, below the episodes: evaluations.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    DataError
        If a table lacks a column, has no rows, or its bars are not evenly spaced.
    FileError
        If the file cannot be written.
    """
    text = render_report(bars, buckets, events, manifest, truth=truth, sections=sections)
    output.write_whole(path, text.encode("utf-8", "backslashreplace"))  # bytes of file names that are no text
    return Path(path).resolve()


def report_directory(
    directory: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    truth: pl.DataFrame | None = None,
    sections: Sequence[Section] = (),
) -> Path:
    """Write the report of an output directory, by default to `report.html` inside it.

    Raises
    ------
    FileError
        If the directory is no whole toxmid output, or the file cannot be written.
    DataError
        As :func:`write_report`.
    """
    target = Path(directory) / output.REPORT if path is None else path
    return write_report(*output.load(directory), target, truth=truth, sections=sections)


def render_report(
    bars: pl.DataFrame,
    buckets: pl.DataFrame,
    events: pl.DataFrame,
    manifest: Mapping[str, Any],
    *,
    truth: pl.DataFrame | None = None,
    sections: Sequence[Section] = (),
) -> str:
    """Return the report as HTML text. Parameters and errors as :func:`write_report`."""
    _require(bars, BARS, "bars")
    _require(buckets, BUCKETS, "buckets")
    _require(events, EVENTS, "events")
    if truth is not None:
        _require(truth, ("ts", "mid"), "truth")
    if bars.is_empty():
        raise DataError("there are no bars to report on")
    bars, buckets, events = (_in_nanoseconds(table) for table in (bars, buckets, events))
    truth = None if truth is None else _in_nanoseconds(truth)
    page = _Page(bars, buckets, events.sort("ts_start", maintain_order=True), output.to_json(manifest), truth)
    return _environment().get_template("report.html.j2").render(page.context(), sections=sections)


class _Page:
    """Everything the template shows, gathered from the tables of one replay."""

    def __init__(
        self,
        bars: pl.DataFrame,
        buckets: pl.DataFrame,
        events: pl.DataFrame,
        manifest: Mapping[str, Any],
        truth: pl.DataFrame | None,
    ) -> None:
        self.bars, self.buckets, self.events, self.manifest = bars, buckets, events, manifest
        self.times = bars["ts"].cast(pl.Int64).to_numpy()
        self.bar_ns = _spacing(self.times)
        self.columns = columns_of(bars, truth)
        self.instrument = manifest.get("instrument") or {}
        typical = bars.select(pl.col("mid").cast(pl.Float64).fill_nan(None).median()).item()
        self.decimals = facts.price_decimals(self.instrument.get("tick"), typical)
        self.panels = layout(self.columns, price_decimals=self.decimals)

    def context(self) -> dict[str, Any]:
        order = self._by_importance()
        windows = [self._rows_around(row, *_WINDOW) for row in range(self.events.height)]
        fits = np.zeros(len(windows), dtype=bool)
        fits[order] = fit_windows([windows[row] for row in order], len(self.times))
        rows, bucket = select_rows(
            list(self.columns.values()), [window for window, fit in zip(windows, fits, strict=True) if fit]
        )
        listed = np.sort(order[:_EPISODES_LISTED])
        spec, data = self._drawing(rows, bucket, order)
        return {
            "title": self._title(),
            "venue": self.instrument.get("venue"),
            "period": self._period(),
            "inputs": facts.inputs(self.manifest.get("inputs") or []),
            "figures": facts.key_figures(
                self.bars,
                pl.Series(self.columns["gap_bps"]),
                self.events,
                self.manifest.get("counts") or {},
                self.bar_ns,
                self.manifest.get("liquidation_feed"),
            ),
            "panels": self.panels,
            "kinds": facts.kinds(self.events),
            "cancelled": facts.tells_cancelled(self.events[listed]),
            "episodes": self._episodes(listed, fits[listed]),
            "episodes_total": self.events.height,
            "bucket_facts": self._bucket_facts(),
            "counts": _lines(self.manifest.get("counts")),
            "params": _lines(self.manifest.get("params"), identifiers=True),
            "instrument": facts.instrument(self.instrument),
            "warm_up": facts.warm_up(self.manifest.get("warm_up") or {}),
            "memory": _lines(self.manifest.get("memory")),
            "request": _lines(self.manifest.get("request")),
            "open_bucket": _lines(self.manifest.get("open_bucket")),
            "open_episodes": _lines(self.manifest.get("open_episodes")),
            "versions": _lines(self.manifest.get("versions")),
            "spec": spec,
            "data": data,
            **_assets(),
        }

    def _title(self) -> str:
        simulated = self.manifest.get("simulated")
        if simulated:
            return f"Simulated market: {simulated['scenario']}, seed {simulated['seed']}"
        inputs = self.manifest.get("inputs") or []
        name = self.instrument.get("symbol") or next((Path(str(i["path"])).name for i in inputs if i.get("path")), None)
        return str(name or "Replay")

    def _period(self) -> dict[str, str]:
        first, last = int(self.times[0]) - self.bar_ns, int(self.times[-1])
        return {
            "start": facts.time_of(first),
            "end": facts.time_of(last),
            "length": facts.duration(last - first),
            "bar": facts.duration(self.bar_ns),
            "bars": f"{len(self.times):,}",
        }

    def _by_importance(self) -> NDArray[np.int64]:
        """Order of the episodes by the size of their move: the larger ones are drawn in full and listed first."""
        moves = self.events["move_bps"].cast(pl.Float64).abs().to_numpy()
        return np.argsort(-np.nan_to_num(moves, nan=0.0, posinf=0.0), kind="stable")

    def _rows_around(self, event: int, least: int, share: float) -> tuple[int, int]:
        start, end = (self._row_of(self.events[name].cast(pl.Int64)[event]) for name in ("ts_start", "ts_end"))
        margin = max(least, round((end - start) * share))
        return max(start - margin, 0), min(end + margin + 1, len(self.times))

    def _row_of(self, time: int) -> int:
        """Row of the bar that covers a time: the first that ends at it or later."""
        return min(int(np.searchsorted(self.times, time)), len(self.times) - 1)

    def _episodes(self, listed: NDArray[np.int64], in_full: NDArray[np.bool_]) -> list[facts.Row]:
        views = []
        for event in listed:
            start, stop = self._rows_around(int(event), *_VIEW)
            views.append((float(self.times[start] / 1e9), float(self.times[stop - 1] / 1e9)))
        ends = [self._row_of(time) for time in self.events["ts_end"].cast(pl.Int64)]
        mid_at_end = self.bars["mid"].cast(pl.Float64)[ends][listed]
        return facts.episode_rows(self.events[listed], mid_at_end, self.decimals, views, in_full.tolist())

    def _bucket_facts(self) -> list[facts.Figure]:
        if self.buckets.is_empty():
            return [facts.Figure("Closed volume buckets", "0")]
        spans = (self.buckets["ts_close"] - self.buckets["ts_open"]).cast(pl.Int64)
        shortest = spans.arg_min() or 0
        return [
            facts.Figure("Closed volume buckets", f"{self.buckets.height:,}"),
            facts.Figure("Volume of the last one", facts.number(self.buckets["volume"][-1])),
            facts.Figure("Filled in, median", facts.duration(int(spans.to_frame().median().item()))),
            facts.Figure(
                "Filled in, fastest",
                facts.duration(spans[shortest]),
                f"closed {facts.time_of(self.buckets['ts_close'].cast(pl.Int64)[shortest])}",
            ),
        ]

    def _drawing(self, rows: NDArray[np.int64], bucket: int, order: NDArray[np.int64]) -> tuple[Markup, str]:
        """Return the description of the drawing for the script, and the packed columns."""
        digits = {series.column: series.digits for panel in PANELS for series in panel.series}
        packed: dict[str, tuple[NDArray[Any], int | None]] = {"row": (rows.astype(np.float64), None)} | {
            name: (values[rows], digits[name]) for name, values in self.columns.items()
        }
        regimes = self.bars["regime"].cast(pl.String)
        names = sorted(regimes.drop_nulls().unique())
        codes = regimes.replace_strict({name: i + 1 for i, name in enumerate(names)}, default=0, return_dtype=pl.Int64)
        starts, values = runs(codes.to_numpy())
        packed |= {"regime_row": (starts.astype(np.float64), None), "regime": (values.astype(np.float64), None)}
        marked = self.events[np.sort(order[:_EPISODES_MARKED])]
        table, text = pack(packed)
        spec = {
            "start_ms": int(self.times[0]) / 1e6,
            "bar_ms": self.bar_ns / 1e6,
            "bars": len(self.times),
            "bucket": bucket,
            "columns": table,
            "regimes": ["", *names],
            "calm": sorted(facts.CALM),
            "panels": self.panels,
            "events": [
                [kind, start / 1e9, end / 1e9]
                for kind, start, end in zip(
                    marked["kind"].cast(pl.String),
                    marked["ts_start"].cast(pl.Int64),
                    marked["ts_end"].cast(pl.Int64),
                    strict=True,
                )
            ],
        }
        return _json_for_script(spec), text


def _require(table: pl.DataFrame, columns: tuple[str, ...], name: str) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"{name} lack a column that the report needs", column=missing[0], expected=", ".join(columns))


def _in_nanoseconds(table: pl.DataFrame) -> pl.DataFrame:
    """Bring every time to nanoseconds, so that a time cast to an integer is Unix time in nanoseconds."""
    times = [name for name, kind in table.schema.items() if isinstance(kind, pl.Datetime)]
    return table.with_columns(pl.col(times).dt.cast_time_unit("ns")) if times else table


def _spacing(times: NDArray[np.int64]) -> int:
    if len(times) == 1:
        return 1_000_000_000
    steps = np.diff(times)
    if steps[0] <= 0 or np.any(steps != steps[0]):
        row = int(np.argmax(steps != steps[0])) + 1
        raise DataError("bars are not evenly spaced in time", row=row, column="ts", expected=f"steps of {steps[0]} ns")
    return int(steps[0])


def _lines(entries: Any, *, identifiers: bool = False) -> list[tuple[str, str]]:
    """Return name and value of every leaf; names are turned into words unless they are what a user has to type."""
    if entries in (None, {}, []):
        return []
    lines = [(path, facts.plain(value)) for path, value in facts.flatten(entries)]
    return lines if identifiers else [(path.replace("_", " "), value) for path, value in lines]


def _json_for_script(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _assets() -> dict[str, Markup]:
    folder = resources.files("toxmid.report") / "assets"
    names = {"uplot_css": "uPlot.min.css", "css": "report.css", "uplot_js": "uPlot.iife.min.js", "js": "report.js"}
    return {key: Markup((folder / name).read_text(encoding="utf-8")) for key, name in names.items()}


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("toxmid.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
