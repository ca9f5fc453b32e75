"""Figures of the Binance archive: open interest, funding, and sums of depth that may stand still."""

from __future__ import annotations

import polars as pl
import pytest

from toxmid.errors import DataError
from toxmid.readers import base, open_tape, read


def test_open_interest(samples):
    tape = open_tape(samples / "binance" / "AVAXUSDT-metrics-2025-10-10.zip", "open_interest")
    frame = tape.frame()
    assert frame["open_interest"].to_list() == [120000.0, 119000.5, 60000.0]
    assert str(frame["ts"][0]) == "2025-10-10 00:05:00+00:00"
    assert (tape.instrument.venue, tape.instrument.symbol) == ("binance-futures", "AVAXUSDT")


def test_open_interest_in_contracts_is_taken_from_its_value_in_coin(samples):
    frame = read(samples / "binance" / "AVAXUSD_PERP-metrics-2025-10-10.zip", "open_interest")
    assert frame["open_interest"].to_list() == [120000.0]


def test_the_row_of_the_next_day_is_not_taken_twice(samples, write):
    first = samples / "binance" / "AVAXUSDT-metrics-2025-10-10.zip"
    header = "create_time,symbol,sum_open_interest,sum_open_interest_value\n"
    second = write(
        "AVAXUSDT-metrics-2025-10-11.csv",
        header + "2025-10-11 00:00:00,AVAXUSDT,60000,1\n2025-10-11 00:05:00,AVAXUSDT,,1\n",
    )
    tape = open_tape([first, second], "open_interest")
    assert tape.frame().height == 3
    assert tape.counts == {"rows_read": 5, "rows_used": 3, "duplicates": 1, "no_value": 1}


def test_funding_with_its_interval(samples):
    frame = read(samples / "binance" / "AVAXUSDT-fundingRate-2025-10.zip", "funding")
    assert frame.select("rate", "interval").rows() == [(0.0001, 8.0), (-0.00125, 4.0)]
    assert read(samples / "binance" / "BTCUSD_PERP-fundingRate-2025-10.zip", "funding").height == 1


@pytest.mark.parametrize("size", [None, 60])
def test_bands_that_stand_still_are_flagged(samples, monkeypatch, size):
    if size:
        monkeypatch.setattr(base, "BLOCK", size)
    frame = read(samples / "binance" / "AVAXUSDT-bookDepth-2025-10-10.zip", "depth_bands")
    assert frame.filter("stale").select("side", "percent", "depth").rows() == [(1, 1.0, 400.0)]
    assert str(frame["ts"][6]) == "2025-10-10 00:01:07+00:00"  # the time with a space before it
    assert frame["side"].to_list() == [1, 1, -1] * 3


def test_a_moment_that_is_none(write):
    path = write("AVAXUSDT-bookDepth-1.csv", "timestamp,percentage,depth,notional\n2025-10-10 25:00:07,1,2,3\n")
    with pytest.raises(DataError, match="not a time") as caught:
        read(path, "depth_bands")
    assert (caught.value.row, caught.value.found) == (2, "2025-10-10 25:00:07")


def test_real_depth_of_which_the_bids_froze(shared_data):
    tape = open_tape(shared_data / "binance-archive" / "BTCUSDT-bookDepth-2025-10-10.csv", "depth_bands")
    frame = tape.frame()
    assert tape.counts["rows_read"] == tape.counts["rows_used"] == frame.height
    near = frame.filter((pl.col("percent") == 1) & (pl.col("ts").dt.hour() >= 17))
    shares = dict(near.group_by("side").agg(pl.col("stale").mean()).iter_rows())
    assert shares[-1] == 0
    assert shares[1] > 0.7
    assert not frame.filter(pl.col("ts").dt.hour() < 12)["stale"].any()
    # Sums from the mid outwards never fall.
    live = frame.filter(pl.col("ts").dt.hour() < 12).sort("ts", "side", "percent", maintain_order=True)
    assert live.select(pl.col("depth").diff().over("ts", "side").drop_nulls().ge(0).all()).item()
