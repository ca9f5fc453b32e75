"""Other venues, index and mark price in the estimator: who is believed, and what must hold however many there are."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.consensus import consensus, weighted_median
from reference.implied import Seconds, half_width, seconds_of_trades
from reference.venue import corridor, last_prices, marked, price_corridor

import toxmid
from toxmid.cli import cli
from toxmid.engine import Engine, ImpliedMid
from toxmid.errors import DataError, ParameterError
from toxmid.simulate import Simulation, simulate

SECOND = 10**9
TERMS = ("asymmetry", "volume", "credibility", "toxic", "reference")


def bps(prices: pl.Series) -> np.ndarray:
    return 1e4 * np.log(prices.cast(pl.Float64).fill_null(float("nan")).to_numpy())


def replayed(tape: Simulation, **others: Any) -> pl.DataFrame:
    return toxmid.replay(trades=tape.trades, quotes=tape.quotes, instrument=tape.instrument, **others).bars


@pytest.fixture(scope="module")
def cascade() -> Simulation:
    return simulate("flush", seed=12)


@pytest.fixture(scope="module")
def everything(cascade: Simulation) -> pl.DataFrame:
    return replayed(cascade, reference=cascade.references, mark=cascade.mark)


# --- one, several, in any order ---------------------------------------------------------------------------------------


def test_one_venue_is_the_same_by_any_name(cascade: Simulation) -> None:
    trades = cascade.references["clean"]
    alone = replayed(cascade, reference=trades)
    assert replayed(cascade, reference={"kraken": trades}).equals(alone, null_equal=True)
    assert replayed(cascade, reference=[trades]).equals(alone, null_equal=True)
    assert alone["reference_bps"].abs().sum() > 0


def test_order_of_the_venues_does_not_matter(cascade: Simulation) -> None:
    frames = [
        replayed(cascade, reference={name: cascade.references[name] for name in names}, mark=cascade.mark)
        for names in itertools.permutations(cascade.references)
    ]
    for frame in frames[1:]:
        assert frame.equals(frames[0], null_equal=True)


def test_equals_the_plain_consensus(cascade: Simulation) -> None:
    """Each venue's own corridor from a replay with it alone, how torn it is from a replay of its own tape."""
    names = list(cascade.references)
    together = replayed(cascade, reference=cascade.references)
    single = [replayed(cascade, reference=trades) for trades in cascade.references.values()]
    torn = []
    for trades in cascade.references.values():
        own = toxmid.replay(trades=trades).bars
        gap = pl.Series(np.abs(bps(own["implied_mid"]) - bps(own["mid"])))
        torn.append(together.select("ts").join(own.select("ts", gap=gap), on="ts", how="left")["gap"].fill_nan(0.0))
    rows = np.flatnonzero(together["reference_mid"].is_not_null().to_numpy())[::7]
    assert rows.size > 150
    assert max(float(gap.max() or 0.0) for gap in torn) > 1.0
    for row in rows.tolist():
        opinions = [
            (float(bps(bars["reference_mid"][row : row + 1])[0]), bars["reference_width_bps"][row], gap[row] or 0.0)
            for bars, gap in zip(single, torn, strict=True)
        ]
        centre, half, weights = consensus(opinions)
        assert 1e4 * np.log(together["reference_mid"][row]) == pytest.approx(centre, abs=1e-6)
        assert together["reference_width_bps"][row] == pytest.approx(half, rel=1e-6)
        assert len(weights) == len(names)


@pytest.mark.parametrize("name", ["clean", "mixed", "toxic"])
def test_the_corridor_of_one_venue_equals_its_definition(cascade: Simulation, name: str) -> None:
    """Basis and deviations of the last hours, age of its last trade, how wide it is; doubt where it is torn with us."""
    other = cascade.references[name]
    bars = toxmid.replay(trades=cascade.trades, quotes=cascade.quotes, reference={name: other}).bars
    own = Seconds(
        bps(bars["mid"]), bars["spread_bps"].to_numpy(), np.zeros(bars.height),
        bars["buy_volume"].to_numpy(), bars["sell_volume"].to_numpy(),
    )  # fmt: skip
    ends = bars["ts"].to_physical().to_numpy()
    tape = other.filter(pl.col("ts").to_physical() <= ends[-1])
    ts, price, side, size = (tape[column].to_physical().to_numpy() for column in ("ts", "price", "side", "size"))
    venue = padded(seconds_of_trades(ts, price, side, size), int(-(-ts[0] // SECOND) - ends[0] // SECOND), bars.height)
    ours = own.mid + sum(bars[f"{term}_bps"].fill_null(np.nan).to_numpy() for term in TERMS[:3])
    expected = corridor(own, venue, last_prices(ts, side, price, ends), ours, 6.0)
    told = bars["reference_width_bps"].is_not_null().to_numpy() & (ends <= ts[-1])
    assert told.sum() > 1000
    np.testing.assert_allclose(bps(bars["reference_mid"])[told], expected[0][told], atol=1e-6, rtol=0)
    np.testing.assert_allclose(bars["reference_width_bps"].to_numpy()[told], expected[1][told], rtol=1e-6)
    assert np.nanmax(expected[1]) > 1.5 * np.nanmedian(expected[1])
    # The interval: where the corridor holds the value, no wider than it allows.
    held = bars["reference_bps"].fill_null(0.0).to_numpy()
    allowed = np.where(held != 0.0, np.sqrt(4 * expected[1] ** 2 + (0.5 * held) ** 2), np.inf)
    half = np.minimum(half_width(own, ours - own.mid), allowed)
    for bound, sign in (("implied_lo", -1), ("implied_hi", 1)):
        got = sign * (bps(bars[bound]) - bps(bars["implied_mid"]))
        np.testing.assert_allclose(got[told], half[told], rtol=1e-6, atol=1e-6)
    assert name != "mixed" or (half == allowed).sum() > 3


def test_an_index_and_a_mark_price_equal_their_definition(cascade: Simulation) -> None:
    """The mark price goes most of the way to the index here, and is heard once that is known."""
    mark = cascade.mark.with_columns(
        price=pl.col("index") * np.exp(1e-4 * (2.0 + 0.3 * np.sin(np.arange(cascade.mark.height) / 17.0)))
    )
    bars = toxmid.replay(trades=cascade.trades, quotes=cascade.quotes, mark=mark).bars
    own = Seconds(
        bps(bars["mid"]), bars["spread_bps"].to_numpy(), np.zeros(bars.height),
        bars["buy_volume"].to_numpy(), bars["sell_volume"].to_numpy(),
    )  # fmt: skip
    ends, ts = bars["ts"].to_physical().to_numpy(), mark["ts"].to_physical().to_numpy()
    at = np.searchsorted(ts, ends, side="right") - 1
    index, price = (np.where(at >= 0, mark[name].to_numpy()[at], np.nan) for name in ("index", "price"))
    told = bars["reference_width_bps"].is_not_null().to_numpy()
    corridors = [price_corridor(own, values, np.maximum(ends - ts[at], 0) / 1e9, 6.0) for values in (index, price)]
    expected = marked(own, *corridors, told)
    assert told.sum() > 1000
    np.testing.assert_allclose(bps(bars["reference_mid"])[told], expected[0][told], atol=1e-6, rtol=0)
    np.testing.assert_allclose(bars["reference_width_bps"].to_numpy()[told], expected[1][told], rtol=1e-6)
    heard = np.abs(expected[0] - corridors[0][0]) > 1e-6
    assert 100 < heard.sum() < told.sum() - 30


def padded(rows: Seconds, late: int, count: int) -> Seconds:
    """The same rows on a clock of `count` seconds that began so many seconds earlier."""
    columns = []
    for values in (rows.mid, rows.spread, rows.age, rows.buy, rows.sell):
        blank = 0.0 if values is rows.buy or values is rows.sell else np.nan
        columns.append(np.concatenate([np.full(late, blank), values, np.full(count, blank)])[:count])
    return Seconds(*columns)


def test_weighted_median_of_two_is_their_mean() -> None:
    assert weighted_median(np.array([1.0, 3.0]), np.array([3.0, 1.0])) == 1.5


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.5, 50), st.floats(0, 50)), min_size=2, max_size=8))
def test_a_corridor_is_no_narrower_than_the_best_venue(opinions: list[tuple[float, float, float]]) -> None:
    centre, half, weights = consensus(opinions)
    assert sum(weights) == pytest.approx(1.0)
    assert min(c for c, _, _ in opinions) - 1e-9 <= centre <= max(c for c, _, _ in opinions) + 1e-9
    assert half >= min(width for _, width, _ in opinions) * (1 - 1e-12)


def test_given_twice_is_given_once(cascade: Simulation) -> None:
    trades = cascade.references["clean"]
    one, two = (replayed(cascade, reference=given) for given in (trades, {"a": trades, "b": trades}))
    assert np.nanmax(np.abs(bps(one["implied_mid"]) - bps(two["implied_mid"]))) < 1e-6


# --- who is believed --------------------------------------------------------------------------------------------------


def weights_of(tape: Simulation, **others: Any) -> dict[str, float]:
    result = toxmid.replay(trades=tape.trades, quotes=tape.quotes, instrument=tape.instrument, **others)
    return {name: told["mean_weight"] for name, told in result.manifest["references"].items()}


def error(tape: Simulation, bars: pl.DataFrame) -> float:
    """Root mean square distance from the hidden mid under stress, bps."""
    truth = bps(bars.select("ts").join_asof(tape.truth, on="ts")["mid"])
    stress = bars["regime"].str.starts_with("stress").to_numpy()
    return float(np.sqrt(np.nanmean((bps(bars["implied_mid"]) - truth)[stress] ** 2)))


def test_a_torn_venue_counts_less_while_it_is_torn() -> None:
    cascade = simulate("flush", seed=14)
    toxic = cascade.hidden.filter(pl.col("toxicity") > 0.5)["ts"]
    moments = [*cascade.hidden["ts"].gather_every(100)[43:63], *toxic.gather_every(20)]
    assert moments[19] < toxic[0] - dt.timedelta(seconds=10)
    engine, last, told = Engine(instrument=cascade.instrument), pl.lit(None), []
    for moment in moments:
        now = (pl.col("ts") <= moment) & (pl.col("ts") > last).fill_null(True)
        engine.feed(
            trades=cascade.trades.filter(now),
            quotes=cascade.quotes.filter(now),
            reference={name: table.filter(now) for name, table in cascade.references.items()},
        )
        told.append([engine.references[name]["weight"] for name in cascade.references])
        last = pl.lit(moment)
    weights = np.array(told)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    calm, torn = weights[:20].mean(axis=0), weights[20:].mean(axis=0)
    names = list(cascade.references)
    assert torn[names.index("toxic")] < 0.9 * calm[names.index("toxic")]


@pytest.mark.parametrize("seed", [13, 14])
def test_more_venues_are_better_than_the_worst_of_them(seed: int) -> None:
    market = simulate("flush", seed=seed)
    alone = error(market, replayed(market))
    errors = {name: error(market, replayed(market, reference=trades)) for name, trades in market.references.items()}
    assert error(market, replayed(market, reference=market.references)) < max(errors.values())
    assert errors["clean"] < alone
    assert errors["toxic"] <= alone  # a venue that is torn as we are does no harm


def test_a_mark_price_alone_is_not_heard(cascade: Simulation) -> None:
    mark = cascade.mark.drop("index")
    assert replayed(cascade, mark=mark)["implied_mid"].equals(replayed(cascade)["implied_mid"])


def test_a_mark_price_made_of_our_own_trades_is_not_heard_beside_others(cascade: Simulation) -> None:
    own = replayed(cascade).select("ts", price="mid").drop_nulls()
    trades = cascade.references["clean"]
    with_mark = replayed(cascade, reference=trades, mark=own)
    assert with_mark["implied_mid"].equals(replayed(cascade, reference=trades)["implied_mid"])


def test_a_mark_price_that_is_independent_comes_to_be_heard(cascade: Simulation) -> None:
    hidden = cascade.truth.gather_every(10).select("ts", price="mid")
    told = weights_of(cascade, reference=cascade.references["clean"], mark=hidden)
    assert told["mark"] > 0.05
    assert told["mark"] + told["reference"] == pytest.approx(1.0)


def test_an_index_is_a_venue() -> None:
    cascade = simulate("flush", seed=13)
    bars = replayed(cascade, mark=cascade.mark)
    assert error(cascade, bars) < error(cascade, replayed(cascade))
    assert weights_of(cascade, mark=cascade.mark)["index"] > 0.5


# --- what must hold with any of them ----------------------------------------------------------------------------------


def test_is_exactly_the_quoted_mid_while_nothing_is_torn() -> None:
    """Our maker's quotes move, the others follow at once: nobody has anything to say."""
    rng = np.random.default_rng(5)
    mids = 100.0 + 0.01 * np.cumsum(rng.integers(-1, 2, 2000))
    ts = 1_760_054_400 * SECOND + np.arange(2000) * SECOND
    quotes = pl.DataFrame({"ts": ts, "bid": mids - 0.01, "bid_size": 1.0, "ask": mids + 0.01, "ask_size": 1.0})

    def venue(noise: float, basis: float) -> pl.DataFrame:
        side = np.where(np.arange(2000) % 2, 1, -1)
        price = mids * basis * (1 + noise * 1e-4 * rng.normal(size=2000)) + 0.01 * side
        return pl.DataFrame({"ts": ts, "price": price, "size": 1.0, "side": side})

    others = {"a": venue(0.3, 1.001), "b": venue(0.5, 0.999)}
    mark = pl.DataFrame({"ts": ts, "price": mids * 1.0001, "index": mids * 0.9999})
    ready = toxmid.replay(quotes=quotes, reference=others, mark=mark).bars.drop_nulls("implied_mid")
    assert ready["reference_mid"].null_count() < 200
    assert (ready["implied_mid"] == ready["mid"]).mean() > 0.999


def test_nothing_looks_ahead(cascade: Simulation, everything: pl.DataFrame) -> None:
    last = everything["ts"].to_physical()[1100]

    def cut(table: pl.DataFrame) -> pl.DataFrame:
        return table.filter(pl.col("ts").to_physical() <= last)

    part = toxmid.replay(
        trades=cut(cascade.trades),
        quotes=cut(cascade.quotes),
        instrument=cascade.instrument,
        reference={name: cut(table) for name, table in cascade.references.items()},
        mark=cut(cascade.mark),
    ).bars
    assert part[:1100].equals(everything[:1100], null_equal=True)


def test_mirror_symmetry() -> None:
    one, two = (simulate("flush", seed=12, mirror=mirror) for mirror in (False, True))
    gaps = []
    for tape in (one, two):
        bars = replayed(tape, reference=tape.references, mark=tape.mark)
        gaps.append(np.nan_to_num(bps(bars["implied_mid"]) - bps(bars["mid"])))
    assert np.abs(gaps[0]).max() > 5
    # Ticks and arithmetic means are not mirrored exactly.
    assert np.abs(gaps[0] + gaps[1]).max() < 0.05 * np.abs(gaps[0]).max()


@pytest.mark.parametrize("scale", [0.5, 8.0])
def test_translation_in_log_price(cascade: Simulation, everything: pl.DataFrame, scale: float) -> None:
    def moved(table: pl.DataFrame) -> pl.DataFrame:
        return table.drop("lots", strict=False).with_columns(pl.col("^price|bid|ask|index$") * scale)

    bars = toxmid.replay(
        trades=moved(cascade.trades),
        quotes=moved(cascade.quotes),
        reference={name: moved(table) for name, table in cascade.references.items()},
        mark=moved(cascade.mark),
    ).bars
    difference = bps(bars["implied_mid"]) - bps(everything["implied_mid"])
    assert np.nanmax(np.abs(difference - 1e4 * np.log(scale))) < 1e-6


def test_indifferent_to_splitting_a_print(cascade: Simulation, everything: pl.DataFrame) -> None:
    def halved(table: pl.DataFrame) -> pl.DataFrame:
        table = table.drop("lots", "id", strict=False).with_columns(pl.col("size") / 2)
        return pl.concat([table.with_row_index(), table.with_row_index()]).sort("index", maintain_order=True)

    bars = toxmid.replay(
        trades=halved(cascade.trades),
        quotes=cascade.quotes,
        instrument=cascade.instrument,
        reference={name: halved(table) for name, table in cascade.references.items()},
        mark=cascade.mark,
    ).bars
    assert np.nanmax(np.abs(bps(bars["implied_mid"]) - bps(everything["implied_mid"]))) < 1e-6


def test_terms_add_up(everything: pl.DataFrame) -> None:
    bars = everything.drop_nulls("implied_mid")
    total = sum(bars[f"{term}_bps"] for term in TERMS)
    assert (total - 1e4 * (bars["implied_mid"].log() - bars["mid"].log())).abs().max() < 1e-8
    inside = bars.drop_nulls("reference_mid")
    away = (1e4 * (inside["implied_mid"] / inside["reference_mid"]).log()).abs()
    assert inside.height > 1000
    assert (away <= inside["reference_width_bps"] + 1e-6).all()


# --- every way of feeding ---------------------------------------------------------------------------------------------


def calls(tape: Simulation) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """All rows as calls of an engine's methods, in its order of time and kind."""
    rows: list[tuple[int, int, str, tuple[Any, ...], dict[str, Any]]] = []

    def add(order: int, method: str, table: pl.DataFrame, *columns: str, **named: Any) -> None:
        for row in table.select(pl.col("ts").to_physical(), *columns).iter_rows():
            rows.append((row[0], order, method, row, named))

    add(0, "trade", tape.trades, "price", "size", "side")
    add(3, "quote", tape.quotes, "bid", "bid_size", "ask", "ask_size")
    add(4, "mark_price", tape.mark, "price", "index")
    for name, table in tape.references.items():
        add(5, "reference_trade", table, "price", "size", "side", venue=name)
    rows.sort(key=lambda row: row[:2])
    return [row[2:] for row in rows]


def test_streaming_tables_chunks_and_snapshots_give_the_same_bits() -> None:
    tape = simulate("flush", seed=11, duration=700.0)
    tables = {"trades": tape.trades.drop("id", "lots"), "quotes": tape.quotes, "mark": tape.mark}
    whole = Engine()
    whole.feed(**tables, reference=tape.references)
    whole.finish()
    expected = whole.drain_bars()
    one = Engine()
    for place, (method, arguments, named) in enumerate(calls(tape)):
        if place in (4000, 9001):
            one = Engine.restore(one.snapshot())
        getattr(one, method)(*arguments, **named)
    one.finish()
    assert one.drain_bars() == expected
    assert repr(one.references) == repr({name: whole.references[name] for name in one.references})
    middle = tape.start + 350 * SECOND
    parts = Engine()
    for early in (True, False):
        side = pl.col("ts").to_physical() < middle

        def part(table: pl.DataFrame, side: pl.Expr = side if early else ~side) -> pl.DataFrame:
            return table.filter(side)

        parts.feed(
            **{name: part(table) for name, table in tables.items()},
            reference={name: part(table) for name, table in reversed(tape.references.items())},
        )
    parts.finish()
    assert parts.drain_bars() == expected
    result = toxmid.replay(**tables, reference=tape.references)
    assert result.bars.equals(toxmid.engine.bars_frame(expected), null_equal=True)
    assert result.counts["by_input"]["reference:clean"]["rows_used"] == tape.references["clean"].height


def test_reading_a_value_changes_nothing_and_tells_the_weights() -> None:
    tape = simulate("flush", seed=11, duration=900.0)
    read, silent = ImpliedMid(), ImpliedMid()
    weights: list[Mapping[str, float]] = []
    for place, (method, arguments, named) in enumerate(calls(tape)):
        for estimator in (read, silent):
            getattr(estimator, method)(*arguments, **named)
        if place % 211 == 0:
            weights.append(read.weights)
            assert sum(read.terms.values()) == pytest.approx(read.value - read.mid, abs=1e-9, nan_ok=True)
    assert read.snapshot() == silent.snapshot()
    told = [entry for entry in weights if entry]
    assert len(told) > 20
    assert all(sum(entry.values()) == pytest.approx(1.0) for entry in told)
    assert {"clean", "mixed", "toxic", "index"} <= set().union(*told)


def test_a_replay_goes_on_with_its_venues(cascade: Simulation, everything: pl.DataFrame) -> None:
    middle = cascade.start + 1000 * SECOND
    options = {"instrument": cascade.instrument, "quotes": cascade.quotes, "mark": cascade.mark}
    first = toxmid.replay(
        trades=cascade.trades, reference=cascade.references, end=middle, finish=False, **options
    )
    names = list(reversed(cascade.references))
    second = toxmid.replay(
        trades=cascade.trades, reference={name: cascade.references[name] for name in names}, start=middle,
        state=first.state, **options,
    )  # fmt: skip
    assert pl.concat([first.bars, second.bars]).equals(everything, null_equal=True)
    rows = [run.counts["by_input"]["reference:mixed"]["events_used"] for run in (first, second)]
    assert sum(rows) == cascade.references["mixed"].height


# --- what is refused --------------------------------------------------------------------------------------------------


def test_names_and_numbers_of_venues_are_checked(cascade: Simulation) -> None:
    trades = cascade.references["clean"]
    with pytest.raises(ParameterError, match="too many other venues"):
        replayed(cascade, reference={f"venue {i}": trades for i in range(9)})
    for name in ("mark", "index", ""):
        with pytest.raises(ParameterError, match="name"):
            replayed(cascade, reference={name: trades})
        with pytest.raises(ParameterError, match="no name for another venue"):
            Engine().reference_trade(cascade.start, 1.0, 1.0, venue=name)
    with pytest.raises(DataError, match="no such venue"):
        Engine().reference_trade_at(8, cascade.start, 1.0, 1.0)
    with pytest.raises(DataError, match="time goes back in trades of b"):
        Engine().feed(reference={"a": trades, "b": trades.reverse()})


def test_rows_that_are_no_trades_are_counted_by_venue(cascade: Simulation) -> None:
    bad = cascade.references["clean"].with_columns(
        price=pl.when(pl.int_range(pl.len()) < 7).then(float("nan")).otherwise("price")
    )
    result = toxmid.replay(trades=cascade.trades, reference={"a": bad, "b": cascade.references["mixed"]})
    counts = result.counts["by_input"]
    assert counts["reference:a"]["rejected"] == {"bad_price": 7}
    assert counts["reference:b"]["rejected"] == {}
    assert [entry["venue"] for entry in result.manifest["inputs"] if entry["kind"] == "reference"] == ["a", "b"]


def test_command_line_names_venues(cascade: Simulation, tmp_path: Path) -> None:
    cascade.trades.drop("lots").write_parquet(tmp_path / "own.parquet")
    for name in ("clean", "mixed"):
        cascade.references[name].write_parquet(tmp_path / f"{name}.parquet")
    arguments = ["replay", "-q", "--trades", str(tmp_path / "own.parquet"), "--out", str(tmp_path / "out")]
    for name in ("clean", "mixed"):
        arguments += ["--reference", f"{name}={tmp_path / name}.parquet"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    saved = toxmid.Replay.load(tmp_path / "out")
    assert set(saved.manifest["references"]) == {"clean", "mixed"}
    again = toxmid.replay(
        trades=tmp_path / "own.parquet",
        reference={name: tmp_path / f"{name}.parquet" for name in ("mixed", "clean")},
    )
    assert saved.bars.equals(again.bars, null_equal=True)
