"""VPIN beside other packages, with figures that `golden/make_peers.py` made: the same where definitions are.

===================  ==================  =======================  ================================================
package              signs               sigma of bulk signs      other differences
===================  ==================  =======================  ================================================
wickra 2.0           taker side          --                       a value after each trade; no unknown side; fill
                                                                  in doubles; no time, no bucket, no rank
ob-analytics 0.1     taker side          --                       before the window is full, the mean of fewer
                                                                  buckets; what is no buy is a sell
orderflow-metrics    bulk, by bucket     of the window itself,    no side is looked at; one value per call
0.40                                     not of the bars before
flowrisk 0.3         bulk, by time bar   exponential, the bar     the open bucket is in every value; starts from
                                         itself in it             the mean of the first prices; not run here
PINstimation 0.2     bulk, by time bar   of the whole sample      bucket size of the whole sample; figure for
                                                                  figure in `test_whole_sample.py`
toxmid               taker side, rule,   exponential, of the      whole lots; unknown is a third state; null
                     or by time bar      bars before              before the window is full
===================  ==================  =======================  ================================================
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from golden.make_peers import BUCKET, EVERY, REAL_BUCKET, WINDOW, generated, tardis
from scipy.special import ndtr

from toxmid.vpin import vpin

FIGURES = json.loads((Path(__file__).parent / "golden" / "peers.json").read_text())
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module", params=FIGURES)
def compared(request: pytest.FixtureRequest) -> tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]:
    """Figures of the others, the tape, our buckets."""
    if request.param == "generated":
        trades, volume = generated(), BUCKET
    else:
        path: Path = request.getfixturevalue("shared_data") / "crash-2025-10-10"
        trades = tardis(str(path / "binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz"))
        volume = REAL_BUCKET
    tape = pl.DataFrame(trades, schema=["ts", "price", "size", "side"], orient="row")
    return FIGURES[request.param], tape, vpin(tape, bucket_volume=volume, window=WINDOW)


def closing_trade(tape: pl.DataFrame, buckets: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Row of the trade that filled each bucket: found by volume, as trades of one time may fill several."""
    poured = np.cumsum(np.rint(tape["size"].to_numpy() * 1000).astype(np.int64))
    edges = np.cumsum(np.rint(buckets["volume"].to_numpy() * 1000).astype(np.int64))
    return np.searchsorted(poured, edges, side="left")


def test_the_tape_is_the_one_they_saw(compared: tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]) -> None:
    figures, tape, _ = compared
    assert (tape.height, tape["size"].sum()) == (figures["trades"], pytest.approx(figures["volume"], rel=1e-12))


def test_wickra_says_after_each_trade_what_the_last_bucket_says(
    compared: tuple[dict[str, Any], pl.DataFrame, pl.DataFrame],
) -> None:
    figures, tape, buckets = compared
    closed = closing_trade(tape, buckets)
    first = closed[WINDOW - 1]
    last_bucket = np.searchsorted(closed, np.arange(first, tape.height), side="right") - 1
    ours = buckets["vpin"].to_numpy()[last_bucket][::EVERY]
    np.testing.assert_allclose(figures["wickra"], ours, rtol=0, atol=1e-9)


def test_ob_analytics_agrees_once_the_window_is_full(
    compared: tuple[dict[str, Any], pl.DataFrame, pl.DataFrame],
) -> None:
    figures, _, buckets = compared
    theirs = np.array(figures["ob_analytics"])
    assert theirs.size == buckets.height
    np.testing.assert_allclose(theirs[WINDOW - 1 :], buckets["vpin"][WINDOW - 1 :].to_numpy(), rtol=0, atol=1e-9)
    # Before, theirs is the mean of the buckets so far; ours is not ready.
    so_far = buckets["imbalance"].abs().to_numpy()[: WINDOW - 1].cumsum() / np.arange(1, WINDOW)
    np.testing.assert_allclose(theirs[: WINDOW - 1], so_far, rtol=0, atol=1e-9)
    assert buckets["vpin"].null_count() == WINDOW - 1


def test_orderflow_metrics_signs_buckets_in_bulk_with_the_sigma_of_the_window(
    compared: tuple[dict[str, Any], pl.DataFrame, pl.DataFrame],
) -> None:
    """On the edges of our buckets, its definition gives its figures; so nothing but the classification differs."""
    figures, tape, buckets = compared
    theirs = np.array(figures["orderflow_metrics"])
    price = tape["price"].to_numpy()
    change = np.diff(price[closing_trade(tape, buckets)], prepend=price[0])
    windows = np.lib.stride_tricks.sliding_window_view(change, WINDOW)
    share = ndtr(windows / windows.std(axis=1, keepdims=True))
    np.testing.assert_allclose(theirs, np.abs(2 * share - 1).mean(axis=1), rtol=0, atol=1e-6)
    signed = buckets["vpin"].drop_nulls().to_numpy()
    assert abs(float(np.corrcoef(theirs, signed)[0, 1])) < 0.9  # another thing altogether
