"""The report: one file that needs no network, hides nothing, escapes everything and draws in a browser."""

from __future__ import annotations

import base64
import json
import math
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from toxmid import output
from toxmid.errors import DataError, FileError
from toxmid.report import BARS, BUCKETS, EVENTS, Section, facts, render_report, report_directory, write_report
from toxmid.report.series import PANELS, columns_of
from toxmid.report.thin import OVERVIEW_ROWS, WINDOW_ROWS, fit_windows, pack, runs, select_rows

DAY = 86_400
START_NS = 1_760_054_400_000_000_000  # 2025-10-10 00:00 UTC
TIME = pl.Datetime("ns", "UTC")


# --- a day that looks like one ----------------------------------------------------------------------------------------


def smooth(values: np.ndarray, seconds: float) -> np.ndarray:
    """Exponential mean."""
    kernel = np.exp(-np.arange(int(6 * seconds)) / seconds)
    return np.convolve(values, kernel / kernel.sum())[: len(values)]


def synthetic_frames(rows: int = DAY, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Bars, buckets, events and true mid of a made-up market with one deep cascade and some short widenings."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)
    crash = rows * 0.88
    busy = 1 + 0.6 * np.sin(2 * np.pi * (t / rows - 0.35))
    since = np.maximum(t - crash, 0.0)
    cascade = np.where(t >= crash, np.exp(-since / (rows * 0.006)) * (1 - np.exp(-since / 20)), 0.0)
    bursts = np.zeros(rows)
    for at, depth in zip(rng.uniform(0.05, 0.85, 9) * rows, rng.uniform(0.02, 0.09, 9), strict=True):
        bursts += np.where(t >= at, depth * np.exp(-np.maximum(t - at, 0) / 25), 0.0)
    stress = cascade + bursts
    log_true = np.log(121_500) + np.cumsum(rng.normal(0, 6e-5, rows) * busy) - 0.035 * (1 - np.exp(-since / 900))
    displaced = log_true - 0.06 * smooth(cascade, 40) - 0.02 * bursts + rng.normal(0, 1e-5, rows)
    half = 0.4e-5 * (1 + rng.exponential(0.4, rows)) + 0.012 * stress**1.5 * (1 + rng.exponential(0.5, rows))
    bid, ask = (np.round(np.exp(displaced + sign * half), 1) for sign in (-1, 1))
    ask = np.maximum(ask, bid + 0.1)
    mid = (bid + ask) / 2
    buy, sell = (rng.gamma(0.35, 1.1, rows) * busy * (1 + gain * stress) for gain in (14, 70))
    liq_sell = np.where(rng.random(rows) < np.minimum(1, 1.4 * stress), sell * 0.6, 0.0)
    liq_buy = np.where(rng.random(rows) < 0.0008, rng.gamma(0.8, 1.0, rows), 0.0)
    flow = smooth(liq_sell, 120)
    toxic = np.where(flow > 1e-3, np.exp(smooth(np.log(bid), 180) - 4e-4 * np.minimum(flow, 10)), np.nan)
    implied = np.exp(log_true + 0.15 * (displaced - log_true))
    width = 6e-5 + 0.25 * np.abs(displaced - log_true) + 2 * half
    imbalance = smooth(np.abs(buy - sell), 600) / smooth(buy + sell, 600)
    vpin = np.clip(0.22 + 0.5 * (imbalance - np.median(imbalance)) + 0.4 * smooth(stress, 400), 0.02, 0.98)
    rank = np.clip(0.5 + 4.5 * (vpin - 0.24), 0.0, 1.0)
    log_return = np.r_[np.full(min(60, rows), np.nan), np.abs(displaced[60:] - displaced[:-60]) * 1e4]
    excess = log_return / (np.nanmedian(log_return) * np.sqrt(smooth(buy + sell, 60) / np.mean(buy + sell)))
    spread = 1e4 * np.log(ask / bid)
    warming = t < min(300, rows // 4)
    regime = np.where(cascade > 0.05, "stress-labelled", np.where(bursts > 0.02, "stress-inferred", "calm"))
    columns = {
        "bid": bid, "ask": ask, "mid": mid, "spread_bps": spread,
        "trades": rng.poisson(9 * busy), "buy_volume": buy, "sell_volume": sell,
        "liq_buy_volume": np.minimum(liq_buy, buy), "liq_sell_volume": liq_sell,
        "vpin": np.where(t < rows // 12, np.nan, vpin), "vpin_rank": np.where(t < rows // 6, np.nan, rank),
        "spread_z": np.where(warming, np.nan, np.log(spread / np.median(spread)) / 0.28),
        "impact_bps": log_return, "bps_per_volume": log_return / (60 * smooth(buy + sell, 60)),
        "kyle_lambda": np.where(warming, np.nan, 0.04 * (1 + 6 * smooth(stress, 300))),
        "liq_branching": np.where(smooth(liq_sell, 600) > 1e-2, 1 - np.exp(-smooth(liq_sell, 600)), np.nan),
        "liq_branching_excess": np.where(warming, np.nan, 1 - np.exp(-smooth(liq_sell, 600)) - 0.2),
        "depth_bid_10bps": 160 * np.exp(-8 * stress) * rng.gamma(20, 0.05, rows),
        "depth_ask_10bps": 160 * np.exp(-3 * stress) * rng.gamma(20, 0.05, rows),
        "cancel_share": np.clip(0.95 - 0.6 * stress - rng.exponential(0.02, rows), 0, 1),
        "round_trip_bps": np.where(stress > 0.6, np.nan, 1.5 * spread + 6),
        "toxicity": smooth(liq_sell, 30) / smooth(buy + sell, 30),
        "excess_impact": np.where(warming, np.nan, excess),
        "toxic_mean": toxic, "debiased_mean": toxic * np.exp(1.2 * half + 0.3e-4 * flow),
        "implied_mid": np.where(warming, np.nan, implied),
        "implied_lo": np.where(warming, np.nan, implied * np.exp(-width)),
        "implied_hi": np.where(warming, np.nan, implied * np.exp(width)),
    }  # fmt: skip
    ts = pl.Series("ts", START_NS + (t + 1) * 1_000_000_000).cast(pl.Datetime("ns", "UTC"))
    bars = pl.DataFrame({"ts": ts, **columns}).with_columns(pl.col(pl.Float64).fill_nan(None))
    bars = bars.with_columns(pl.Series("regime", regime))
    truth = pl.DataFrame({"ts": ts, "mid": np.exp(log_true)})
    return bars, synthetic_buckets(ts, buy, sell, vpin, rank), synthetic_events(bars, regime), truth


def synthetic_buckets(
    ts: pl.Series, buy: np.ndarray, sell: np.ndarray, vpin: np.ndarray, rank: np.ndarray
) -> pl.DataFrame:
    total = np.cumsum(buy + sell)
    closes = np.searchsorted(total, np.arange(1, 51) * total[-1] / 51)
    opens = np.r_[0, closes[:-1]]
    return pl.DataFrame(
        {
            "bucket": np.arange(50), "ts_open": ts[opens.tolist()], "ts_close": ts[closes.tolist()],
            "volume": np.full(50, total[-1] / 51), "vpin": vpin[closes], "vpin_rank": rank[closes],
        }
    )  # fmt: skip


def synthetic_events(bars: pl.DataFrame, regime: np.ndarray) -> pl.DataFrame:
    starts, names = runs(np.unique(regime, return_inverse=True)[1].astype(np.int64))
    stops = np.r_[starts[1:], len(regime)]
    calm = np.unique(regime).tolist().index("calm")
    kinds = ["widening", "sweep", "vacuum"]
    records = []
    for count, (start, stop, name) in enumerate(zip(starts, stops, names, strict=True)):
        if name == calm or stop >= len(regime) or start < 1:
            continue
        part = bars[int(start) : int(stop)]
        volume = part["buy_volume"].sum() + part["sell_volume"].sum()
        move = 1e4 * math.log(part["mid"][-1] / bars["mid"][int(start) - 1])
        deep = regime[start] == "stress-labelled"
        records.append(
            {
                "kind": "liquidation_cascade" if deep else kinds[count // 2 % 3],
                "ts_start": bars["ts"][int(start)], "ts_end": part["ts"][-1], "ts_known": part["ts"][-1],
                "side": -1, "move_bps": move, "volume": volume, "bps_per_volume": abs(move) / volume,
                "liq_volume": part["liq_sell_volume"].sum(), "toxic_mean": part["toxic_mean"][-1],
                "debiased_mean": part["debiased_mean"][-1], "implied_mid": part["implied_mid"][-1],
                "mid_before": bars["mid"][int(start) - 1],
                "mid_after": bars["mid"][min(int(stop) + 300, bars.height - 1)],
            }
        )  # fmt: skip
    return pl.DataFrame(records, schema_overrides=dict.fromkeys(("ts_start", "ts_end", "ts_known"), TIME))


def synthetic_manifest(**changes: Any) -> dict[str, Any]:
    entries = output.build_manifest(
        inputs=[
            {"kind": "trades", "path": "trades-2025-10-10.csv.gz", "bytes": 231_400_000, "sha256": "5e" * 32},
            {"kind": "quotes", "path": "quotes-2025-10-10.csv.gz", "bytes": 1_904_000_000, "sha256": "a7" * 32},
            {"kind": "liquidations", "path": "liquidations-2025-10-10.csv.gz", "bytes": 402, "sha256": "0c" * 32},
        ],
        params={"bar": "1s", "buckets_per_day": 50, "window": 50, "interval_level": 0.9, "horizons": ["1s", "5s"]},
        instrument={
            "tick": 0.1, "lot": 0.001, "contract_value": 1.0, "inverse": False, "venue": "venue", "symbol": "BTCUSDT",
            "origin": {"tick": "found", "lot": "found", "contract_value": "assumed", "symbol": "given"},
        },
        counts={
            "rows_read": 25_287_331, "rows_used": 25_286_893, "rows_rejected": 9, "duplicates": 0, "gaps": 2,
            "resets": 1, "rejected": {"trades": {"bad price": 9, "bad side": 0}}, "crossed_books": 429,
        },
        warm_up={
            "bucket volume": {"has": 1.0, "needs": 7.0, "unit": "days"},
            "spread by time of day": {"has": 1.0, "needs": 28.0, "unit": "days"},
            "VPIN rank": {"has": 50, "needs": 4_500, "unit": "buckets"},
        },
        open_bucket={"bucket": 50, "filled": 0.62},
        memory={"half_life_s": 412.0},
    )  # fmt: skip
    return {**entries, "versions": {"toxmid": "0.1.0", "python": "3.11", "numpy": "2", "polars": "2"}, **changes}


@pytest.fixture(scope="module")
def day() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    return synthetic_frames()


@pytest.fixture(scope="module")
def hour() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    return synthetic_frames(rows=3600, seed=4)


@pytest.fixture(scope="module")
def day_page(day: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]) -> str:
    bars, buckets, events, truth = day
    return render_report(bars, buckets, events, synthetic_manifest(), truth=truth)


# --- reading a page back ----------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Elements with their attributes, text of scripts by id, and the text that a person sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self.rows: list[list[str]] = []
        self.seen: list[str] = []
        self._inside: tuple[str, str | None] | None = None
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = (tag, dict(attrs).get("id"))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = None
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._inside[1]] = self.scripts.get(self._inside[1], "") + data
            return
        self.seen.append(data)
        if self._in_cell:
            self.rows[-1][-1] += f"{data.strip()} "

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.seen).split())

    @property
    def spec(self) -> Any:
        return json.loads(self.scripts["spec"])

    def row(self, name: str) -> list[str]:
        """Cells of the table row that begins with a name."""
        return next(cells for row in self.rows if (cells := [cell.strip() for cell in row]) and cells[0] == name)

    def columns(self) -> dict[str, np.ndarray]:
        return unpack(self.spec["columns"], self.scripts["data"])


def unpack(table: list[dict[str, Any]], text: str) -> dict[str, np.ndarray]:
    """Undo `pack`, as the script of the page does."""
    data = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    columns, at = {}, 0
    for entry in table:
        length = entry["length"]
        missing = np.zeros(length, dtype=bool)
        if entry["gaps"]:
            size = (length + 7) // 8
            missing = np.unpackbits(data[at : at + size])[:length].astype(bool)
            at += size
        planes = data[at : at + 4 * length].reshape(4, length)
        zigzag = np.ascontiguousarray(planes.T).view("<u4").ravel().astype(np.int64)
        at += 4 * length
        whole = np.cumsum((zigzag >> 1) ^ -(zigzag & 1))
        values = whole / 10.0 ** -entry["power"] if entry["power"] < 0 else whole * 10.0 ** entry["power"]
        columns[entry["name"]] = np.where(missing, np.nan, values)
    assert at == len(data)
    return columns


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_every_drawn_point_is_a_bar_of_the_table(day: Any, day_page: str) -> None:
    bars, _, _, truth = day
    columns = Page(day_page).columns()
    rows = columns["row"].astype(np.int64)
    assert OVERVIEW_ROWS / 4 < len(rows) < OVERVIEW_ROWS + WINDOW_ROWS
    known = bars.select("mid", "vpin", "liq_sell_volume", "bps_per_volume", true_mid=truth["mid"])
    for name in known.columns:
        values = known[name].to_numpy()
        expected, largest = values[rows], np.nanmax(np.abs(values))
        np.testing.assert_allclose(columns[name], expected, rtol=0, atol=largest * 1e-3, err_msg=name)
        np.testing.assert_array_equal(np.isnan(columns[name]), np.isnan(expected), err_msg=name)
    np.testing.assert_allclose(columns["mid"], bars["mid"].to_numpy()[rows], rtol=0, atol=0.006)
    gap = 1e4 * np.log(bars["implied_mid"].cast(pl.Float64).to_numpy() / bars["mid"].to_numpy())[rows]
    np.testing.assert_allclose(columns["gap_bps"], gap, rtol=0, atol=1e-3)


def test_means_of_the_toxic_flow_are_apart_from_the_mid_in_stress_alone(hour: Any) -> None:
    bars = hour[0].with_columns(toxic_mean=pl.col("mid") * 1.01)
    gaps = columns_of(bars, None)["gap_toxic_bps"]
    stress = bars["regime"].cast(pl.String).str.starts_with("stress").to_numpy()
    assert stress.any()
    np.testing.assert_allclose(gaps[stress], 1e4 * np.log(1.01), rtol=1e-9)
    assert np.isnan(gaps[~stress]).all()


def test_extremes_of_every_column_are_drawn(day: Any, day_page: str) -> None:
    columns = Page(day_page).columns()
    for name in ("bid", "ask", "spread_bps", "excess_impact", "buy_volume", "implied_hi", "vpin_rank", "spread_z"):
        values = day[0][name].cast(pl.Float64).to_numpy()
        for pick in (np.nanmin, np.nanmax):
            assert pick(columns[name]) == pytest.approx(pick(values), rel=1e-3, abs=1e-4), name


def test_every_bar_around_an_episode_is_drawn(day: Any, day_page: str) -> None:
    drawn = set(Page(day_page).columns()["row"].astype(int).tolist())
    start_of = day[0]["ts"].cast(pl.Int64)[0]
    for start, end in day[2].select(pl.col("ts_start", "ts_end").cast(pl.Int64)).iter_rows():
        first, last = (start - start_of) // 10**9, (end - start_of) // 10**9
        assert set(range(first - 60, min(last + 61, DAY))) <= drawn


def test_short_tapes_are_drawn_whole(hour: Any) -> None:
    page = Page(render_report(*hour[:3], synthetic_manifest()))
    assert page.columns()["row"].tolist() == list(range(3600))
    assert page.spec["bucket"] == 1
    assert "true_mid" not in page.columns()


def test_regimes_cover_every_bar_exactly(hour: Any) -> None:
    page = Page(render_report(*hour[:3], synthetic_manifest()))
    columns, names = page.columns(), page.spec["regimes"]
    starts = columns["regime_row"].astype(int)
    lengths = np.diff(np.r_[starts, 3600])
    rebuilt = [names[int(code)] for code, length in zip(columns["regime"], lengths, strict=True) for _ in range(length)]
    assert rebuilt == hour[0]["regime"].to_list()


def test_truth_on_another_grid_is_taken_as_of_the_bar(hour: Any) -> None:
    truth = hour[3].with_columns(pl.col("ts").dt.offset_by("-400ms").dt.cast_time_unit("us"))
    page = Page(render_report(*hour[:3], synthetic_manifest(), truth=truth))
    np.testing.assert_allclose(page.columns()["true_mid"], truth["mid"].to_numpy(), atol=0.01)


def test_optional_columns_may_be_missing_and_others_may_be_there(hour: Any) -> None:
    bars = hour[0].select(BARS).with_columns(pl.lit("<b>").alias("surplus"))
    page = Page(render_report(bars, hour[1].select(BUCKETS), hour[2].select(EVENTS), synthetic_manifest()))
    names = [panel["name"] for panel in page.spec["panels"]]
    assert names == ["price", "gap", "vpin", "spread", "impact", "volume"]
    impact = next(panel for panel in page.spec["panels"] if panel["name"] == "impact")
    assert list(impact["axes"]) == ["left"]
    assert impact["axes"]["left"]["lane"] == [0.0, 1.0]
    assert "toxicity" not in page.columns()


def test_panels_and_lines_without_a_value_are_left_out(hour: Any) -> None:
    nothing = pl.lit(None, pl.Float64)
    empty = {"depth_bid_10bps", "depth_ask_10bps", "cancel_share", "liq_branching", "liq_branching_excess"}
    bars = hour[0].with_columns(nothing.alias(name) for name in empty | {"round_trip_bps", "excess_impact"})
    page = Page(render_report(bars, *hour[1:3], synthetic_manifest()))
    panels = {panel["name"]: panel for panel in page.spec["panels"]}
    assert list(panels) == ["price", "gap", "vpin", "spread", "impact", "lambda", "volume"]
    assert [attrs["id"] for tag, attrs in page.elements if attrs.get("class") == "panel"] == [
        f"panel-{name}" for name in panels
    ]
    assert [line["column"] for line in panels["spread"]["series"]] == ["spread_z", "spread_bps"]
    # An axis that is empty as a whole stays, so that one sees that it is.
    assert [line["column"] for line in panels["impact"]["series"]] == ["bps_per_volume", "excess_impact"]


def test_a_panel_that_knows_one_thing_only_says_that(hour: Any) -> None:
    bars = hour[0].with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("depth_bid_10bps", "implied_hi"))
    panels = {p["name"]: p for p in Page(render_report(bars, *hour[1:3], synthetic_manifest())).spec["panels"]}
    assert [line["column"] for line in panels["depth"]["series"]] == ["cancel_share", "depth_ask_10bps"]
    assert panels["price"]["band"] is None


def test_the_usual_branching_is_the_ratio_less_its_excess(hour: Any) -> None:
    columns = columns_of(hour[0], None)
    known = hour[0].select((pl.col("liq_branching") - pl.col("liq_branching_excess")).alias("usual"))["usual"]
    assert known.drop_nulls().len() > 100
    np.testing.assert_array_equal(columns["branching_usual"], known.to_numpy())


def test_a_day_stays_small(day_page: str) -> None:
    assert len(day_page.encode()) < 1_800_000


# --- what is said -----------------------------------------------------------------------------------------------------


def small_frames() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Four bars and one episode, small enough to work out by hand."""
    ts = pl.Series("ts", START_NS + np.arange(1, 5) * 1_000_000_000).cast(TIME)
    constant = {name: [None] * 4 for name in BARS if name not in ("ts", "regime")}
    values = {
        "bid": [99.0, 99.0, 98.0, 99.0], "ask": [101.0, 101.0, 102.0, 101.0], "mid": [100.0] * 4,
        "spread_bps": [200.0, 200.0, 400.0, 200.0], "trades": [1] * 4, "buy_volume": [1.0, 2.0, 3.0, 4.0],
        "sell_volume": [0.0, 0.0, 6.0, 4.0], "liq_buy_volume": [0.0] * 4, "liq_sell_volume": [0.0, 0.0, 5.0, 0.0],
        "spread_z": [None, 0.0, 7.25, 0.0], "vpin": [None, 0.2, 0.9, 0.9], "vpin_rank": [None, 0.5, 0.99, 1.0],
        "implied_mid": [None, 100.0, 101.0, 99.5], "implied_lo": [None, 99.0, 100.0, 99.0],
        "implied_hi": [None, 101.0, 102.0, 100.0],
    }  # fmt: skip
    regime = pl.Series("regime", ["calm", "calm", "stress-labelled", "halted"])
    bars = pl.DataFrame({"ts": ts, **constant, **values}).with_columns(regime)
    buckets = pl.DataFrame({"bucket": [0], "ts_open": [ts[0]], "ts_close": [ts[2]], "volume": [12.0]})
    event = dict.fromkeys(EVENTS, 1.0) | {
        "kind": "sweep", "ts_start": ts[1], "ts_end": ts[2], "ts_known": ts[3], "side": -1, "move_bps": -12.5,
        "toxic_mean": 99.0, "debiased_mean": None, "implied_mid": 101.0, "mid_before": 100.5, "mid_after": 99.9,
    }  # fmt: skip
    return bars, buckets, pl.DataFrame([event], schema_overrides={"debiased_mean": pl.Float64})


def test_key_figures_by_hand() -> None:
    bars, _, events = small_frames()
    gap = pl.Series([None, 0.0, 1e4 * math.log(1.01), 1e4 * math.log(0.995)])
    counts = {"rows_read": 9, "rows_used": 7, "by_input": {"trades": {"rows_used": 5}}}
    figures = {f.label: (f.value, f.note) for f in facts.key_figures(bars, gap, events, counts, 1_000_000_000)}
    assert figures == {
        "Rows used": ("7", "of 9 read"),
        "Toxic share of volume": ("25.0 %", "liquidation-driven: 5.00 of 20.00"),
        "Episodes": ("1", "1 sweep"),
        "Widest spread": ("400.0 bps", "z 7.2, at 00:00:03"),
        "Max |implied − mid|": ("99.50 bps", "implied above quoted, at 00:00:03"),
        "Time in stress": ("25.0 %", "1 s of 4 s"),
        "VPIN rank ≥ 99 %": ("66.7 %", "2 s of 3 s ranked"),
        "Impact, stress over calm": ("–", "Too few bars with flow in calm or under stress to tell the two apart."),
    }


@pytest.mark.parametrize("bar", [1, 20])
def test_impact_under_stress_is_told_in_terms_of_calm(bar: int) -> None:
    """Moves that are exactly 0.5 bps per unit of flow in calm and 2 under stress."""
    rng = np.random.default_rng(5)
    length = max(bar, 10)
    flow = rng.normal(size=400)
    stress = np.arange(400) >= 200
    # The state of a bar of ten seconds is that in which it began: that of the bar before.
    started = np.r_[False, stress[:-1]]
    mid = 100 * np.exp(np.cumsum(np.where(started, 2.0, 0.5) * flow) / 1e4)
    each = length // bar
    bars = pl.DataFrame(
        {
            "ts": pl.Series(START_NS + np.arange(1, 400 * each + 1) * bar * 10**9).cast(TIME),
            "mid": np.repeat(mid, each),
            "buy_volume": np.repeat(np.maximum(flow, 0) / each, each),
            "sell_volume": np.repeat(np.maximum(-flow, 0) / each, each),
            "regime": np.repeat(np.where(stress, "stress-inferred", "calm"), each),
        }
    )
    bars = bars.with_columns(pl.lit(None, pl.Float64).alias(name) for name in set(BARS) - set(bars.columns))
    events = small_frames()[2]
    found = facts.key_figures(bars, pl.Series([None] * bars.height, dtype=pl.Float64), events, {}, bar * 10**9)
    assert {figure.label: figure.value for figure in found}["Impact, stress over calm"] == "4.00 ×"


FEED = {
    "records": 363, "published_volume": 10.0, "matched_share": 0.975, "inferred_volume": 25.0,
    "published_of_inferred": 0.4, "published_of_open_interest": None, "single_record_share": 1.0, "most_per_second": 1,
    "doubtful": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "value", "words"),
    [
        ({}, "40.0 %", "Published volume over that inferred from the market; 97.5 % of it, in 363 records, was found "
                       "among the trades, and never two records came in one second."),
        ({"published_of_open_interest": 0.125, "most_per_second": 9}, "12.5 %", "Published volume over that by which "
         "the open interest fell; 97.5 % of it, in 363 records, was found among the trades."),
        ({"matched_share": 0.05, "doubtful": True}, "40.0 %", "Published volume over that inferred from the market; "
         "5.0 % of it, in 363 records, was found among the trades, and never two records came in one second. Is their "
         "side that of the position, or their clock or market another?"),
    ],
)  # fmt: skip
def test_how_complete_the_liquidation_feed_was(changes: dict[str, Any], value: str, words: str) -> None:
    page = Page(render_report(*small_frames(), synthetic_manifest(liquidation_feed=FEED | changes)))
    assert f"Liquidation feed {value} {words}" in page.text


def test_without_a_liquidation_feed_nothing_is_said_of_it() -> None:
    assert "Liquidation feed" not in Page(render_report(*small_frames(), synthetic_manifest())).text


def test_the_largest_distance_stands_beside_those_of_the_means_of_the_toxic_flow() -> None:
    bars, _, events = small_frames()
    at = 10.0 ** np.array([0.0, 0.0, 1.0, 0.0])
    bars = bars.with_columns(toxic_mean=pl.col("mid") * np.exp(-5e-3), debiased_mean=pl.col("mid") * np.exp(2.5e-3))
    figures = {f.label: f.note for f in facts.key_figures(bars, pl.Series(at), events, {}, 10**9)}
    assert figures["Max |implied − mid|"].endswith("; toxic mean −50.0; de-biased +25.0")


def test_figures_of_a_tape_on_which_nothing_is_known_yet() -> None:
    bars, _, events = small_frames()
    unknown = [pl.lit(None, pl.Float64).alias(name) for name in ("spread_bps", "vpin_rank", "spread_z")]
    nothing = bars.with_columns(unknown)
    nothing = nothing.with_columns(buy_volume=0.0, sell_volume=0.0, liq_sell_volume=0.0, regime=pl.lit(None, pl.String))
    figures = facts.key_figures(nothing, pl.Series([None] * 4, dtype=pl.Float64), events.clear(), {}, 10**9)
    assert [figure.value for figure in figures] == ["–", "0", "–", "–", "–", "–", "–"]


def test_an_episode_stands_beside_the_quoted_mid_of_its_end() -> None:
    page = Page(render_report(*small_frames(), synthetic_manifest()))
    row = page.row("sweep")
    assert row[1:5] == ["00:00:02 2025-10-10", "00:00:03", "1 s", "sell"]
    assert row[5] == "−12.50"
    assert row[9:] == ["100.5", "99.0 −100.5 bps", "–", "101.0 +99.5 bps", "100.0", "99.9"]
    attributes = next(attrs for tag, attrs in page.elements if tag == "tr" and "data-from" in attrs)
    marks = [float(attributes[f"data-{name}"] or "nan") for name in ("start", "end", "from", "to")]
    seconds = [mark - START_NS / 1e9 for mark in marks]
    assert seconds == [2, 3, 1, 4]


def test_an_episode_says_what_was_pulled_whether_anything_traded_and_when_it_was_narrow_again() -> None:
    bars, buckets, events = small_frames()
    known = events.with_columns(cancelled_share=0.625, gap=True, ts_tightened=pl.col("ts_start"))
    row = Page(render_report(bars, buckets, known, synthetic_manifest())).row("sweep gap: nothing traded")
    assert row[2] == "00:00:03 narrow from 00:00:02"
    assert row[15:] == ["62.5 %"]
    unknown = events.with_columns(
        cancelled_share=pl.lit(None, pl.Float64), gap=False, ts_tightened=pl.lit(None, pl.Datetime("ns", "UTC"))
    )
    page = render_report(bars, buckets, unknown, synthetic_manifest())
    assert page == render_report(bars, buckets, events, synthetic_manifest())
    assert "Cancelled" not in [cell.split(" ")[0] for row in Page(page).rows for cell in row]


def test_the_page_says_where_the_numbers_come_from(day_page: str) -> None:
    page = Page(day_page)
    assert page.row("rejected · trades · bad price")[1] == "9"
    assert page.row("crossed books")[1] == "429"
    assert page.row("buckets_per_day")[1] == "50"
    assert page.row("contract value")[1] == "1 assumed"
    assert page.row("bucket volume")[1].startswith("1 of 7 days")
    assert page.row("toxmid")[1] == "0.1.0"
    for words in (
        "BTCUSDT", "2025-10-10 00:00:00 – 2025-10-11 00:00:00 UTC", "86,400 bars of 1 s", "trades-2025-10-10.csv.gz",
        "doi:10.1016/j.finmar.2013.05.005", "liquidation cascade", "How to read this", "5e5e5e5e5e5e",
    ):  # fmt: skip
        assert words in page.text, words
    for panel in PANELS:
        assert ("section", {"class": "panel", "id": f"panel-{panel.name}"}) in page.elements


def test_large_moves_are_listed_when_there_are_too_many(hour: Any) -> None:
    events = pl.concat([hour[2][:1]] * 700).with_columns(move_bps=pl.int_range(700).cast(pl.Float64))
    page = Page(render_report(*hour[:2], events, synthetic_manifest()))
    assert "The 250 largest moves of 700 closed episodes" in page.text
    listed = [row for row in page.rows if len(row) == 15][1:]
    assert len(listed) == 250
    assert min(float(row[5]) for row in listed) == 450.0


def test_an_episode_too_long_to_draw_in_full_says_so(day: Any) -> None:
    bars, buckets, events, _ = day
    long = events[:1].with_columns(pl.lit(bars["ts"][10]).alias("ts_start"), pl.lit(bars["ts"][-10]).alias("ts_end"))
    assert "not in full" in Page(render_report(bars, buckets, long, synthetic_manifest())).text
    assert "not in full" not in Page(render_report(bars, buckets, events, synthetic_manifest())).text


def test_without_episodes_buckets_or_manifest_it_is_still_a_report(hour: Any) -> None:
    bars, buckets, events, _ = hour
    page = Page(render_report(bars, buckets.clear(), events.clear(), {}))
    assert "No episode closed in this period." in page.text
    assert page.row("Closed volume buckets")[1] == "0"
    assert ("title", {}) in page.elements
    assert "Rows used" not in page.text


# --- safe and the same each time --------------------------------------------------------------------------------------


def test_nothing_in_the_file_points_outside(day_page: str) -> None:
    page = Page(day_page)
    attributes = [(tag, name, value) for tag, attrs in page.elements for name, value in attrs.items()]
    assert [found for found in attributes if found[1] in ("src", "href", "action")] == [("link", "href", "data:,")]
    metas = [attrs for tag, attrs in page.elements if tag == "meta"]
    policy = next(attrs["content"] for attrs in metas if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "url(" not in page.scripts[None]
    assert "@import" not in page.scripts[None]


def test_sections_stand_below_the_episodes_and_are_found_from_the_top(hour: Any) -> None:
    sections = [Section("One & two", Markup("<p>body</p>")), Section("Three", Markup("<p>more</p>"))]
    page = render_report(*hour[:3], synthetic_manifest(), sections=sections)
    assert page.index("<h2>Episodes</h2>") < page.index("<p>body</p>") < page.index("<p>more</p>")
    assert page.index("<p>more</p>") < page.index('id="reading"')
    assert '<a href="#evaluation-1">One &amp; two ↓</a><a href="#evaluation-2">Three ↓</a>' in page
    assert 'class="jump"' not in render_report(*hour[:3], synthetic_manifest())


def test_names_with_markup_stay_text(hour: Any) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'"
    bars = hour[0].with_columns(pl.lit(evil).alias("regime"))
    events = hour[2].with_columns(pl.lit(evil).alias("kind"))
    clean = synthetic_manifest()
    manifest = synthetic_manifest(
        instrument={"symbol": evil, "venue": evil, "origin": {"symbol": evil}},
        inputs=[{"kind": evil, "path": evil, "bytes": 1, "sha256": evil}],
        params={evil: evil}, counts={evil: {evil: evil}}, warm_up={evil: {"has": 1, "needs": 2, "unit": evil}},
        open_bucket={evil: evil}, memory={evil: evil}, versions={evil: evil},
    )  # fmt: skip
    attacked = Page(render_report(bars, hour[1], events, manifest))
    harmless = Page(render_report(hour[0], hour[1], hour[2], clean))
    count = [sum(tag == "script" for tag, _ in page.elements) for page in (attacked, harmless)]
    assert count[0] == count[1] == 4
    assert not any(tag == "img" for tag, _ in attacked.elements)
    assert attacked.spec["regimes"] == ["", evil]
    assert attacked.spec["events"][0][0] == evil
    assert " ".join(evil.split()) in attacked.text


def test_equal_input_gives_equal_bytes(hour: Any) -> None:
    pages = [render_report(*hour[:3], synthetic_manifest(), truth=hour[3]) for _ in range(2)]
    assert pages[0] == pages[1]


def test_times_as_integers_or_microseconds_change_nothing(hour: Any) -> None:
    bars, buckets, events, _ = hour
    times = {"bars": ["ts"], "buckets": ["ts_open", "ts_close"], "events": ["ts_start", "ts_end", "ts_known"]}
    frames = {"bars": bars, "buckets": buckets, "events": events}
    page = render_report(bars, buckets, events, synthetic_manifest())
    for cast in (lambda column: column.cast(pl.Int64), lambda column: column.dt.cast_time_unit("us")):
        other = {name: frame.with_columns(cast(pl.col(*times[name]))) for name, frame in frames.items()}
        assert render_report(*other.values(), synthetic_manifest()) == page


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "column"), [(0, "implied_lo"), (1, "ts_close"), (2, "liq_volume")])
def test_a_missing_column_is_named(table: int, column: str) -> None:
    frames = list(small_frames())
    frames[table] = frames[table].drop(column)
    with pytest.raises(DataError, match="lack a column") as caught:
        render_report(*frames, synthetic_manifest())
    assert caught.value.column == column


def test_empty_uneven_or_false_frames_are_refused() -> None:
    bars, buckets, events = small_frames()
    with pytest.raises(DataError, match="no bars"):
        render_report(bars.clear(), buckets, events, {})
    with pytest.raises(DataError, match="not evenly spaced") as caught:
        render_report(bars[[0, 1, 3]], buckets, events, {})
    assert caught.value.row == 2
    with pytest.raises(DataError, match="not evenly spaced"):
        render_report(bars[::-1], buckets, events, {})
    with pytest.raises(DataError, match="truth lack"):
        render_report(bars, buckets, events, {}, truth=pl.DataFrame({"ts": [1]}))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    assert write_report(*small_frames(), synthetic_manifest(), path) == path
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(FileError, match="cannot be written"):
        write_report(*small_frames(), synthetic_manifest(), tmp_path / "none" / "report.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match="cannot be written"):
        write_report(*small_frames(), synthetic_manifest(), tmp_path / "folder")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "report.html"]


def test_report_of_an_output_directory(tmp_path: Path, hour: Any) -> None:
    output.save(tmp_path / "out", *hour[:3], synthetic_manifest())
    path = report_directory(tmp_path / "out")
    assert path == (tmp_path / "out" / "report.html").resolve()
    assert report_directory(tmp_path / "out", tmp_path / "x.html").read_bytes() == path.read_bytes()
    with pytest.raises(FileError, match="no such directory"):
        report_directory(tmp_path / "none")


# --- thinning ---------------------------------------------------------------------------------------------------------

values_or_nothing = st.one_of(st.floats(-1e6, 1e6), st.just(math.nan))


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[values_or_nothing] * n), min_size=1, max_size=200)),
    st.integers(5, 60),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=3),
)
def test_thinning_keeps_the_extremes_of_every_bucket(
    rows: list[tuple[float, ...]], budget: int, windows: list[tuple[int, int]]
) -> None:
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    kept, bucket = select_rows(columns, windows, budget=budget)
    assert kept.tolist() == sorted(set(kept.tolist()))
    kept_set = set(kept.tolist())
    for start, stop in windows:
        assert set(range(start, min(stop, len(rows)))) <= kept_set
    for first in range(0, len(rows), bucket):
        inside = kept[(kept >= first) & (kept < first + bucket)]
        for column in columns:
            part, drawn = column[first : first + bucket], column[inside]
            assert np.isnan(part).any() == np.isnan(drawn).any()
            if not np.isnan(part).all():
                assert np.nanmin(part) == np.nanmin(drawn)
                assert np.nanmax(part) == np.nanmax(drawn)


def test_thinning_keeps_to_its_budget() -> None:
    rng = np.random.default_rng(1)
    columns = [rng.normal(size=50_000) for _ in range(20)]
    rows, bucket = select_rows(columns, [], budget=5_000)
    assert len(rows) <= 5_000
    assert bucket > 1


def test_windows_are_drawn_in_order_until_the_budget_is_used() -> None:
    assert fit_windows([(0, 100), (50, 120), (300, 390), (110, 130)], 400, budget=130) == [True, True, False, True]
    assert fit_windows([], 10) == []


@given(st.lists(values_or_nothing, max_size=100), st.integers(4, 8))
def test_packed_columns_come_back(values: list[float], digits: int) -> None:
    column = np.array(values, dtype=np.float64)
    whole = np.arange(len(values), dtype=np.float64) * 7
    back = unpack(*pack({"x": (column, digits), "whole": (whole, None)}))
    np.testing.assert_array_equal(np.isnan(back["x"]), np.isnan(column))
    largest = np.nanmax(np.abs(column), initial=0.0) if np.isfinite(column).any() else 0.0
    np.testing.assert_allclose(back["x"], column, rtol=0, atol=max(largest * 10.0 ** (1 - digits), 1e-300))
    np.testing.assert_array_equal(back["whole"], whole)


# --- in a browser -----------------------------------------------------------------------------------------------------

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Run after the page is ready: choose the first episode, sort the table, move the cursor, and write down what is seen.
PROBE = """
<script>
(async () => {
  while (!document.documentElement.dataset.ready) await new Promise((done) => setTimeout(done, 10));
  const seen = { whole: document.querySelector("#range").textContent };
  document.querySelectorAll("#episodes thead button")[5].click();
  const rows = [...document.querySelectorAll("#episodes tbody tr")];
  seen.moves = rows.map((row) => Number(row.children[5].dataset.order));
  document.querySelector("#episodes tbody button").click();
  await new Promise((done) => setTimeout(done, 100));
  seen.chosen = document.querySelector("#range").textContent;
  seen.resolution = document.querySelector("#resolution").textContent;
  const over = document.querySelector("#panel-price .u-over"), box = over.getBoundingClientRect();
  const middle = { clientX: box.left + box.width / 2, clientY: box.top + 50, bubbles: true };
  over.dispatchEvent(new MouseEvent("mousemove", middle));
  await new Promise((done) => setTimeout(done, 100));
  seen.cursor = document.querySelector("#cursor").textContent;
  const values = document.querySelectorAll("#panel-volume .u-series:not(:first-child) .u-value");
  seen.values = [...values].map((cell) => cell.textContent).filter(Boolean);
  seen.inked = [...document.querySelectorAll("canvas")].map((canvas) =>
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte > 0));
  seen.overflow = document.documentElement.scrollWidth > innerWidth;
  document.body.dataset.seen = JSON.stringify(seen);
})();
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here to draw the page")
@pytest.mark.parametrize("size", ["1280,900", "500,900"])
def test_the_page_draws_in_a_browser(tmp_path: Path, day: Any, day_page: str, size: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(day_page.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        "--v=0", f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size}", "--virtual-time-budget=8000",
        "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    # The policy of the page forbids every request, so an attempt at one would stand here as an error too.
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    dom = Page(done.stdout)
    assert sum(tag == "canvas" for tag, _ in dom.elements) == len(PANELS)
    seen = json.loads(next(attrs["data-seen"] for tag, attrs in dom.elements if tag == "body") or "{}")
    assert seen["inked"] == [True] * len(PANELS)
    assert not seen["overflow"]
    assert seen["whole"] == "2025-10-10 00:00:00 – 2025-10-11 00:00:00 UTC · 1 d"
    assert seen["moves"] == sorted(seen["moves"], reverse=True)
    assert len(seen["moves"]) == day[2].height
    assert seen["chosen"] != seen["whole"]
    assert seen["resolution"] == "every bar of 1 s drawn"
    assert seen["cursor"].endswith(" UTC")
    assert len(seen["values"]) == 4
