"""VPIN: volume-synchronised flow toxicity, bucket by bucket."""

from __future__ import annotations

import warnings
from typing import Any, Final, Literal, cast, get_args

import polars as pl

from toxmid import _core, schema
from toxmid.engine import buckets_of
from toxmid.errors import ParameterError, TapeWarning
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.spreads import Rule
from toxmid.spreads import classify as classify_trades
from toxmid.tapes import any_trades, found_instrument
from toxmid.whole_sample import Classifier, vpin_whole_sample

__all__ = ["vpin"]

Convention = Literal["causal", "pinstimation"]

_MOST_OFFSETS: Final = 1000


def vpin(
    trades: Any,
    *,
    bucket_volume: float | None = None,
    buckets_per_day: int = 50,
    window: int = 50,
    classify: str = "side",
    bar: str = "60s",
    convention: Convention = "causal",
    quotes: Any = None,
    df: float = 0.25,
    instrument: Instrument | None = None,
    offsets: int = 1,
) -> pl.DataFrame:
    """Flow toxicity in the volume clock.

    Trades fill buckets of equal volume V; a trade that runs over the edge of a bucket is split there. With
    :math:`B_k` bought and :math:`S_k` sold in bucket k, and n the window [1]_,

    .. math::

        VPIN_j = \\frac{\\sum_{k=j-n+1}^{j} |B_k - S_k|}{\\sum_{k=j-n+1}^{j} V_k}

    Parameters
    ----------
    trades : table
        Canonical trades, sorted by time (polars, pyarrow, pandas, anything with ``__arrow_c_stream__``).
    bucket_volume : float, optional
        V in base coin. None: trailing, lagged daily volume (median of the last complete UTC days, before the first the
        rate so far, from 300 s on) divided by `buckets_per_day`. In an inverse market a bucket holds whole contracts,
        as many as `bucket_volume` is worth at the price at which it opens.
    buckets_per_day : int
        Buckets in a day of usual volume.
    window : int
        Buckets n of one value.
    classify : {"side", "tick", "quote", "lee_ready", "emo", "bvc_normal", "bvc_t"}
        How volume is signed: by the venue's flag, by a rule for single trades (see `toxmid.classify`; all but "tick"
        need `quotes`), or in bulk by the price change of bars.
    bar : str
        Bar of bulk classification.
    convention : {"causal", "pinstimation"}
        "pinstimation": bucket volume and sigma from the whole sample, as the R package of that name does, for
        comparison with papers; it looks ahead (see `toxmid.whole_sample.vpin_whole_sample`).
    quotes : table, optional
        Canonical quotes, for the rules that need them.
    df : float
        Degrees of freedom of "bvc_t".
    instrument : Instrument, optional
        Lot and contract. Where the lot is not given it is found in the pass over the data.
    offsets : int
        Starts K of the volume clock, for a range of values: VPIN depends on where the first bucket begins [2]_. The
        clocks begin 0, V / K, 2 V / K ... into the tape. 1: the clock of the first trade alone, and no range.

    Returns
    -------
    polars.DataFrame
        A row per closed bucket: ``bucket`` from 0, ``ts_open, ts_close, volume, buy_volume, sell_volume,
        unknown_volume`` (base coin), ``imbalance`` (buy - sell) / volume, ``vpin`` in [0, 1] (null until there are
        `window` buckets, and where every side is unknown) and ``vpin_rank``, the share of the values of the 90 days
        before that lie below it (null until 2 x `window` buckets have closed). With `offsets` over 1 also ``vpin_lo``
        and ``vpin_hi``: least and greatest of the values that the K clocks showed (each that of its own last closed
        bucket) when all had taken the trade that closed the bucket; null until all of them show one.

    Raises
    ------
    DataError
        A missing column, a time that goes back.
    ParameterError
        A parameter outside its range.

    Warns
    -----
    TapeWarning
        So many trades were left out, for they have no positive price or size.

    Notes
    -----
    All counting is in whole lots, so that buckets are full exactly. Levels are not comparable across classifications
    and bar sizes, ranks are. VPIN is correlated with volume and volatility by construction (Andersen and Bondarenko
    2014, doi:10.1016/j.finmar.2013.05.005): never report it without them.

    References
    ----------
    .. [1] Easley, D., López de Prado, M. M. and O'Hara, M. (2012). Flow toxicity and liquidity in a high-frequency
       world. Review of Financial Studies 25. doi:10.1093/rfs/hhs053
    .. [2] Bambade, A. and Wu, K. (2019). An assessment of the prediction quality of VPIN. In: Advanced Analytics and
       Artificial Intelligence Applications. doi:10.5772/intechopen.86532; Bambade, A. (2019). A new way to compute the
       probability of informed trading. Journal of Mathematical Finance 9. doi:10.4236/jmf.2019.94032

    Examples
    --------
    >>> start = 1_760_054_400_000_000_000
    >>> tape = pl.DataFrame({"ts": [start + i * 10**9 for i in range(6)], "price": 10.0, "size": [0.1, 0.9, 1, 2, 1, 1],
    ...                      "side": [1, 1, -1, 1, 1, -1]})
    >>> vpin(tape, bucket_volume=1.0, window=2).select("bucket", "imbalance", "vpin").rows()
    [(0, 1.0, None), (1, -1.0, 1.0), (2, 1.0, 1.0), (3, 1.0, 1.0), (4, 1.0, 1.0), (5, -1.0, 1.0)]
    >>> vpin(tape, bucket_volume=1.0, window=2, offsets=2)["vpin_lo"].to_list()
    [None, None, 0.5, 0.5, 1.0, 0.5]
    """
    _check_offsets(offsets, convention)
    if convention == "pinstimation":
        return vpin_whole_sample(
            trades,
            bucket_volume=bucket_volume,
            buckets_per_day=buckets_per_day,
            window=window,
            classify=cast(Classifier, classify),
            bar=bar,
            df=df,
            quotes=quotes,
            instrument=instrument,
        )
    if convention != "causal":
        raise ParameterError(
            "unknown convention", column="convention", found=convention, expected="causal, pinstimation"
        )
    params = Params(
        bucket_volume=bucket_volume,
        buckets_per_day=buckets_per_day,
        window=window,
        classify=classify,
        bvc_bar=bar,
        bvc_df=df,
        vpin_offsets=offsets,
    )
    tape = _signed(trades, quotes, classify, instrument)
    clock = _core.BucketCore(params, instrument or found_instrument(tape))
    clock.run(schema.columns(tape, "trades"))
    if clock.rejected:
        left_out = f"{clock.rejected:,} of {tape.height:,} trades have no positive price or size that can be counted"
        warnings.warn(f"{left_out}, and are left out", TapeWarning, stacklevel=2)
    return buckets_of(clock, ranged=offsets > 1)


def _check_offsets(offsets: int, convention: str) -> None:
    if isinstance(offsets, bool) or not isinstance(offsets, int) or not 1 <= offsets <= _MOST_OFFSETS:
        raise ParameterError("offsets", found=offsets, expected=f"a whole number, 1 to {_MOST_OFFSETS}")
    if offsets > 1 and convention != "causal":
        raise ParameterError("a range of starts is causal", column="convention", found=convention, expected="causal")


def _signed(trades: Any, quotes: Any, rule: str, instrument: Instrument | None) -> pl.DataFrame:
    """Trades with the sides by which their volume counts."""
    tape = any_trades(trades)
    if rule in get_args(Rule):
        return tape.with_columns(classify_trades(tape, quotes, rule=cast(Rule, rule), instrument=instrument))
    return tape
