"""Taker orders: prints of one time and side that follow each other.

Their time is the exchange's where the tape has it: on arrival the prints of one order are microseconds apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.tapes import with_sides

__all__ = ["TakerOrders"]


@dataclass(frozen=True)
class TakerOrders:
    """Orders in order of time, each at its mean price by size.

    Attributes
    ----------
    ts : numpy.ndarray of int64
        Of the first print.
    side, price, size : numpy.ndarray of float64
        Side 0 where it is not known.
    """

    ts: npt.NDArray[np.int64]
    side: npt.NDArray[np.float64]
    price: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]

    @classmethod
    def of(cls, trades: Any) -> TakerOrders:
        """From canonical trades in order of time; rows without a price or a size are passed over.

        Raises
        ------
        DataError
            A column is missing, or time goes back.

        Examples
        --------
        >>> tape = pl.DataFrame({"ts": [1_760_054_400_000_000_000 + k for k in (5, 5, 5, 9)], "side": [1, 1, -1, -1],
        ...                      "price": [10.0, 13.0, 9.0, 9.0], "size": [2.0, 1.0, 1.0, 4.0]})
        >>> orders = TakerOrders.of(tape)
        >>> orders.price.tolist(), orders.size.tolist()
        ([11.0, 9.0, 9.0], [3.0, 1.0, 4.0])
        """
        tape = with_sides(trades).filter(_is_positive("price"), _is_positive("size"))
        if not tape.height:
            nothing = np.empty(0)
            return cls(np.empty(0, np.int64), nothing, nothing, nothing)
        moment = "ts_event" if "ts_event" in tape.columns else "ts"
        another = (pl.col(moment) != pl.col(moment).shift()) | (pl.col("side") != pl.col("side").shift())
        first = np.flatnonzero(tape.select(another.fill_null(True)).to_series().to_numpy())
        price, size = tape["price"].to_numpy(), tape["size"].to_numpy()
        coins = np.add.reduceat(size, first)
        return cls(
            ts=tape["ts"].to_physical().to_numpy()[first],
            side=tape["side"].to_numpy()[first].astype(np.float64),
            price=np.add.reduceat(size * price, first) / coins,
            size=coins,
        )


def _is_positive(name: str) -> pl.Expr:
    return (pl.col(name) > 0) & (pl.col(name) < np.inf)
