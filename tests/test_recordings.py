"""Real recordings: the book that the core builds from depth diffs against the venue's own best bid and ask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import toxmid

MS = 1_000_000


def best_after_each_message(book: pl.DataFrame) -> pl.DataFrame:
    """Best bid and ask as the core has them when each message has ended."""
    engine = toxmid.Engine()
    rows, previous = [], None
    columns = book.select(pl.col("ts").to_physical(), "side", "price", "size", "snapshot")
    for row in columns.iter_rows():
        if previous is not None and row[0] != previous:
            rows.append((previous, engine.book_levels(1, 1), engine.book_levels(-1, 1)))
        engine.book(*row)
        previous = row[0]
    best = [(ts, bids[0][0], asks[0][0]) for ts, bids, asks in rows if bids and asks]
    return pl.DataFrame(best, schema={"ts": pl.Int64, "bid": pl.Float64, "ask": pl.Float64}, orient="row")


@pytest.mark.parametrize(
    ("name", "least"),
    [("cm_btcusd_perp_20240808", 0.999), ("usdm_btcusdt_20240808", 0.99), ("spot_btcusdt_20240808", 0.99)],
)
def test_book_agrees_with_the_recorded_book_ticker(shared_data: Path, name: str, least: float) -> None:
    """Two streams of one venue, on one local clock. Where they disagree, one of them is some milliseconds ahead: the
    book's best is a best that the ticker showed just before or shows just after."""
    path = shared_data / "hftbacktest-raw" / f"{name}.gz"
    best = best_after_each_message(toxmid.read_book(path))
    ticker = toxmid.read_quotes(path).select(pl.col("ts").to_physical(), "bid", "ask")
    in_force = best.join_asof(ticker.rename({"bid": "bid_shown", "ask": "ask_shown"}), on="ts").drop_nulls()
    agrees = (in_force["bid"] == in_force["bid_shown"]) & (in_force["ask"] == in_force["ask_shown"])
    assert in_force.height > 3000
    assert agrees.mean() > least
    times, bids, asks = (ticker[column].to_numpy() for column in ("ts", "bid", "ask"))
    for ts, bid, ask in in_force.filter(~agrees).select("ts", "bid", "ask").iter_rows():
        first, last = np.searchsorted(times, [ts - 100 * MS, ts + 100 * MS])
        assert ((bids[first:last] == bid) & (asks[first:last] == ask)).any(), (ts, bid, ask)


def test_a_recording_replays_through_the_core(shared_data: Path) -> None:
    """All kinds of one stream, over a file that goes on in the next."""
    folder = shared_data / "hftbacktest-raw"
    files = [folder / "cm_btcusd_perp_20240808.gz", folder / "cm_btcusd_perp_20240809.gz"]
    result = toxmid.replay(trades=files, book=files, quotes=files)
    counts = result.counts
    assert counts["rows_read"] == counts["rows_used"] + counts["rows_rejected"]
    assert counts["resets"] == 1
    assert counts["crossed_books"] == 0
    assert result.bars["depth_bid"].drop_nulls().len() > 300
    assert (result.bars["spread_bps"].drop_nulls() > 0).all()


def test_state_goes_over_midnight_as_if_there_were_one_file(shared_data: Path, tmp_path: Path) -> None:
    """The second day begins without a snapshot: its book is that of the first."""
    days = [shared_data / "hftbacktest-raw" / f"cm_btcusd_perp_{day}.gz" for day in (20240808, 20240809)]
    joined = tmp_path / "cm_btcusd_perp_20240808.gz"
    joined.write_bytes(b"".join(day.read_bytes() for day in days))
    apart, together = (toxmid.replay(trades=files, book=files, quotes=files) for files in (days, joined))
    assert apart.bars.equals(together.bars)
    assert apart.bars.filter(pl.col("ts").dt.day() == 9)["depth_bid"].null_count() == 0
    assert apart.counts["sequence_gaps"] == 0
