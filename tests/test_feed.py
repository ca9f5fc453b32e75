"""How complete a liquidation feed is: figures of feeds that are known to be whole, throttled, or of another market."""

from __future__ import annotations

import polars as pl
import pytest
from feeding import SECOND, START, only, simulated

from toxmid.engine import Engine
from toxmid.params import Params
from toxmid.replay import replay


def completeness(liquidations: pl.DataFrame, *others: str) -> dict[str, float | None]:
    engine = Engine()
    engine.feed(**only(simulated(), "trades", "quotes", *others), liquidations=liquidations)
    engine.finish()
    figures = engine.feed_completeness()
    assert figures is not None
    return figures


def throttled(feed: pl.DataFrame) -> pl.DataFrame:
    """The latest record of each second."""
    second = (pl.col("ts").to_physical() - 1) // SECOND
    return feed.group_by(second.alias("second"), maintain_order=True).agg(pl.all().last()).drop("second")


def test_a_whole_feed_and_a_throttled_one() -> None:
    feed = simulated()["liquidations"]
    whole, part = completeness(feed, "open_interest"), completeness(throttled(feed), "open_interest")
    assert whole["records"] == feed.height
    assert whole["published_volume"] == pytest.approx(feed["size"].sum())
    assert whole["matched_share"] == pytest.approx(1.0, abs=0.02)
    assert whole["most_per_second"] == feed.group_by((pl.col("ts").to_physical() - 1) // SECOND).len()["len"].max()
    assert part["most_per_second"] == part["single_record_share"] == 1
    assert part["inferred_volume"] == whole["inferred_volume"]
    for name in ("published_of_inferred", "published_of_open_interest"):
        high, low = whole[name], part[name]
        assert high is not None
        assert low is not None
        assert 0 < low < 0.7 * high
    assert whole["published_of_open_interest"] == pytest.approx(1.0, abs=0.1)


def test_records_of_another_market_match_nothing() -> None:
    feed = simulated()["liquidations"].with_columns(side=-pl.col("side"), size=pl.col("size") * 1e6)
    matched = completeness(feed)["matched_share"]
    assert matched is not None
    assert matched < 0.01


def test_a_feed_with_the_sides_of_positions_is_doubted() -> None:
    """What a venue that names the side of the position (Bybit, Bitget) gives where nobody turns it round."""
    tables = only(simulated(), "trades", "quotes", "liquidations")
    assert not completeness(tables["liquidations"])["doubtful"]
    turned = tables["liquidations"].with_columns(side=-pl.col("side"))
    assert completeness(turned)["doubtful"]
    assert not completeness(turned.head(19))["doubtful"]  # so few may be chance
    result = replay(**{**tables, "liquidations": turned}, params=Params())
    assert "is their side that of the position" in result.summary()


def test_no_feed_no_figures() -> None:
    assert Engine().feed_completeness() is None
    engine = Engine()
    engine.liquidation(START, -1, 100.0, 1.0)
    figures = engine.feed_completeness()
    assert figures is not None
    assert figures["published_of_inferred"] is figures["published_of_open_interest"] is None
    assert figures["matched_share"] == 0.0


def test_manifest_and_summary_say_it() -> None:
    tables = only(simulated(), "trades", "quotes", "liquidations", "open_interest")
    result = replay(**tables, params=Params())
    assert result.manifest["liquidation_feed"]["records"] == tables["liquidations"].height
    assert "found among the trades" in result.summary()
    assert "of what the open interest fell" in result.summary()
    assert "times that of calm" in result.summary()
    bare = replay(**only(tables, "trades", "quotes"), params=Params(bar="1m"))
    assert bare.manifest["liquidation_feed"] is None
    assert "found among the trades" not in bare.summary()
