"""CSV that home-made recorders of Binance USD-M streams write, in the layout that many tutorials share: no header.

Liquidations (``forceOrder``): symbol, side, order type, time in force, quantity, price, average price, status, last
fill, accumulated fill, time (ms), notional. Trades (``aggTrade``): event time (ms), symbol, id, price, quantity, trade
time (ms), buyer is maker; usually only trades above some notional, so they are no full tape. All symbols share a file.
What these programs print besides (a header that fits no row, greetings, rows with a field too many) is counted out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import polars as pl

from toxmid.readers.base import FLAGS, SIDES, TAKER, Csv, Identity, Lines, Table, is_true, taker_sold
from toxmid.readers.files import Head
from toxmid.schema import Kind

__all__ = ["FORMATS"]

_F: Final = pl.Float64()
_NUMBER: Final = r"[-+.\deE]+"


_LIQUIDATION: Final = re.compile(
    rf"\w+,(BUY|SELL),\w+,\w+,(?:{_NUMBER},){{2}}(?:{_NUMBER}|None),\w+,(?:{_NUMBER},){{2}}\d{{13}},{_NUMBER}"
)
_TRADE: Final = re.compile(rf"\d{{13}}, ?\w+, ?\d+, ?{_NUMBER}, ?{_NUMBER}, ?\d{{13}}, ?(?i:true|false)")


# Quote currencies of the venue: a whole symbol ends with one, and something stands before it.
_WHOLE: Final = r"^(.+(?:USDT|USDC|BUSD|FDUSD))((?:_\w+)?)$"
_COIN: Final = r"^([^_]+)((?:_\w+)?)$"


def _symbol(written: str) -> str:
    """
    >>> _symbol("BTC"), _symbol("BTCUSDC"), _symbol("BTCUSDT"), _symbol("BTC_250328")
    ('BTCUSDT', 'BTCUSDC', 'BTCUSDT', 'BTCUSDT_250328')
    """
    return written if re.fullmatch(_WHOLE, written) else re.sub(_COIN, r"\1USDT\2", written)


def _nth_field(index: int, row: re.Pattern[str]) -> Any:
    def identity(head: Head) -> Identity:
        first = next((line for line in head.lines if row.fullmatch(line)), None)
        return Identity("binance-futures", None if first is None else _symbol(first.split(",")[index].strip()))

    return identity


class _WithoutQuote(Csv):
    """Rows whose symbols lack the quote currency."""

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        for lines in super().lines(head, kind, allow_partial=allow_partial):
            names = {name: _symbol(name) for name in lines.frame["symbol"].unique().drop_nulls()}
            whole = pl.col("symbol").replace(names)
            yield replace(lines, frame=lines.frame.with_columns(symbol=whole))


_LIQUIDATIONS: Final = _WithoutQuote(
    name="recorder-liquidations",
    dtypes={
        "symbol": pl.String(),
        "side": SIDES,
        "order_type": pl.String(),
        "time_in_force": pl.String(),
        "original_quantity": _F,
        "price": _F,
        "average_price": _F,
        "order_status": pl.String(),
        "last_filled": _F,
        "accumulated_filled": _F,
        "order_trade_time": pl.Int64(),
        "usd_size": _F,
    },
    arrival="order_trade_time",
    event="order_trade_time",
    units=("ms",),
    tables={
        "liquidations": Table(
            {"side": TAKER, "price": pl.col("average_price"), "size": pl.col("accumulated_filled")},
            excluded={"not_filled": pl.col("order_status") != "FILLED"},
            distinct=(),
        )
    },
    identity=_nth_field(0, _LIQUIDATION),
    labels={"symbol": "symbol"},
    bare=_LIQUIDATION,
    strays=True,
)

_TRADES: Final = Csv(
    name="recorder-trades",
    dtypes={
        "event_time": pl.Int64(),
        "symbol": pl.String(),
        "agg_id": pl.String(),
        "price": _F,
        "qty": _F,
        "trade_time": pl.Int64(),
        "is_buyer_maker": FLAGS,
    },
    arrival="event_time",
    event="trade_time",
    units=("ms",),
    tables={
        "trades": Table(
            {
                "price": pl.col("price"),
                "size": pl.col("qty"),
                "side": taker_sold(is_true("is_buyer_maker")),
                "id": pl.col("agg_id"),
            },
            distinct=("symbol", "agg_id"),
        )
    },
    identity=_nth_field(1, _TRADE),
    labels={"symbol": "symbol"},
    clock_name="exchange, when sent",
    spaced=True,
    bare=_TRADE,
    strays=True,
)

FORMATS: Final = (_LIQUIDATIONS, _TRADES)
