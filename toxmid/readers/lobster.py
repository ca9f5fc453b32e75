"""LOBSTER: a message file and an order book file per stock and day, row by row in step, without header.

Times are seconds after midnight in New York; prices are dollars times 10,000; sizes are shares. The direction of a
message is that of the resting order, so the taker did the opposite. Hidden executions carry no meaningful direction.
The day and the stock are in the file name, and a book is read together with its messages, which hold the times.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from toxmid.errors import DataError, FileError
from toxmid.readers.base import Format, Identity, Lines, Table, TextParser, divided
from toxmid.readers.files import Head, ahead, blocks, read_head
from toxmid.schema import Kind

__all__ = ["FORMATS"]

_NAME: Final = re.compile(r"([A-Z.]+)_(\d{4}-\d{2}-\d{2})_\d+_\d+_(message|orderbook)_(\d+)\.csv")
_NEW_YORK: Final = ZoneInfo("America/New_York")
_SCALE: Final = 10_000
_NO_LEVEL: Final = 9_999_999_999  # what stands where a side has fewer levels, with a minus for bids

_MESSAGE: Final = {
    "time": pl.Float64(),
    "type": pl.Int64(),
    "order_id": pl.Int64(),
    "size": pl.Float64(),
    "price": pl.Float64(),
    "direction": pl.Enum(["1", "-1"]),
}
_VISIBLE, _HIDDEN, _CROSS, _HALT = 4, 5, 6, 7


def _match(head: Head, part: str) -> re.Match[str] | None:
    match = _NAME.search(head.name)
    return match if match is not None and match[3] == part and head.lines else None


def _midnight(head: Head) -> int:
    """Nanoseconds since 1970 of midnight in New York on the day of the file."""
    match = _NAME.search(head.name)
    assert match is not None
    try:
        day = dt.datetime.fromisoformat(match[2])
    except ValueError:
        raise FileError("the name of the file says no day", file=str(head.path), found=match[2]) from None
    return int(day.replace(tzinfo=_NEW_YORK).timestamp()) * 10**9


def _header(head: Head) -> bytes | None:
    """Some copies have had a header line put in front."""
    return head.lines[0].encode() if head.lines and head.lines[0][:1].isalpha() else None


def _messages(head: Head, *, allow_partial: bool) -> Iterator[Lines]:
    """Rows of a message file with `ts`; a day has at most 86,400 s, so a double holds every nanosecond of them."""
    parser = TextParser(head.path, _MESSAGE, _header(head))
    midnight = _midnight(head)
    for block in ahead(blocks(head.path, allow_partial=allow_partial, is_whole=parser.is_whole)):
        lines = parser.parse(block)
        wrong = ~lines.frame["time"].is_between(0, 86_400).fill_null(False)
        if wrong.any():
            index = int(wrong.arg_max() or 0)
            raise DataError(
                "not a time of the day",
                file=str(head.path),
                row=int(lines.frame["row"][index]),
                column="time",
                found=lines.frame["time"][index],
                expected="seconds after midnight",
            )
        times = (pl.col("time") * 1e9).round().cast(pl.Int64) + midnight
        yield Lines(lines.frame.with_columns(ts=times, ts_event=times), lines.read, lines.excluded)


class Messages(Format):
    """Message file: executions are trades."""

    name = "lobster-message"
    tables = {  # noqa: RUF012 (constant of the class)
        "trades": Table(
            {
                "price": divided("price", _SCALE),
                "size": pl.col("size"),
                "side": pl.when(pl.col("type") == _VISIBLE)
                .then(-pl.col("direction").cast(pl.String).cast(pl.Int8))
                .otherwise(0)
                .cast(pl.Int8),
            },
            excluded={
                "other_kinds": pl.col("type").is_between(1, _VISIBLE - 1),
                "not_market_trades": pl.col("type") == _CROSS,
                "halts": pl.col("type") == _HALT,
                "unknown_types": ~pl.col("type").is_between(1, _HALT).fill_null(False),
            },
            base_coin=True,
        )
    }

    def matches(self, head: Head) -> bool:
        return _match(head, "message") is not None

    def labelled(self) -> bool:
        return False

    def clock(self) -> str:
        return "exchange (time)"

    def identify(self, head: Head) -> Identity:
        match = _match(head, "message")
        return Identity("NASDAQ", match[1] if match is not None else None)

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        return _messages(head, allow_partial=allow_partial)


def _levels(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per level; what stands for a missing level does not exist."""
    count = sum(name.startswith("ask_price_") for name in frame.columns)
    names = [f"{side}_{field}_{{}}" for side in ("ask", "bid") for field in ("price", "size")]
    ask_price, ask_size, bid_price, bid_size = (
        frame.select(name.format(level) for level in range(count)).to_numpy() for name in names
    )
    long = pl.DataFrame(
        {name: np.repeat(frame[name].to_numpy(), 2 * count) for name in ("row", "ts", "ts_event")}
        | {
            "side": np.tile(np.repeat(np.array([-1, 1], dtype=np.int8), count), frame.height),
            "price": np.hstack([ask_price, bid_price]).ravel(),
            "size": np.hstack([ask_size, bid_size]).ravel(),
        }
    )
    return long.filter(pl.col("price").abs() != _NO_LEVEL)


def _price(name: str) -> pl.Expr:
    return pl.when(pl.col(name).abs() != _NO_LEVEL).then(divided(name, _SCALE))


class OrderBook(Format):
    """Order book file: the book after each message."""

    name = "lobster-orderbook"
    tables = {  # noqa: RUF012 (constant of the class)
        "book": Table(
            {
                "side": pl.col("side"),
                "price": divided("price", _SCALE),
                "size": pl.col("size"),
                "snapshot": pl.lit(True),
            },
            expand=_levels,
            base_coin=True,
            whole=True,
        ),
        "quotes": Table(
            {
                "bid": _price("bid_price_0"),
                "bid_size": pl.col("bid_size_0"),
                "ask": _price("ask_price_0"),
                "ask_size": pl.col("ask_size_0"),
            },
            base_coin=True,
        ),
    }

    def matches(self, head: Head) -> bool:
        return _match(head, "orderbook") is not None

    def labelled(self) -> bool:
        return False

    def clock(self) -> str:
        return "exchange (time of the message file)"

    def companions(self, head: Head) -> tuple[Path, ...]:
        return (_message_file(head),)

    def identify(self, head: Head) -> Identity:
        match = _match(head, "orderbook")
        return Identity("NASDAQ", match[1] if match is not None else None)

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        times = _times(head, allow_partial=allow_partial)
        width = len(head.lines[-1].split(","))
        fields = ("ask_price", "ask_size", "bid_price", "bid_size")
        schema = {f"{field}_{level}": pl.Float64() for level in range(width // 4) for field in fields}
        parser = TextParser(head.path, schema, _header(head))
        done = 0
        for block in ahead(blocks(head.path, allow_partial=allow_partial)):
            lines = parser.parse(block)
            part = times[done : done + lines.frame.height]
            done += lines.frame.height
            if len(part) < lines.frame.height:
                raise DataError("more rows than messages", file=str(head.path), row=int(lines.frame["row"][len(part)]))
            frame = lines.frame.with_columns(part.alias("ts"), part.alias("ts_event"))
            yield Lines(frame, lines.read, lines.excluded)
        if done < len(times) and not allow_partial:
            raise DataError("fewer rows than messages", file=str(head.path), found=done, expected=f"{len(times)}")


def _message_file(head: Head) -> Path:
    """The message file beside a book."""
    path = Path(str(head.path).replace("_orderbook_", "_message_"))
    if not path.exists():
        raise FileError("the book has no times without its message file", file=str(head.path), expected=path.name)
    return path


def _times(head: Head, *, allow_partial: bool) -> pl.Series:
    frames = [lines.frame["ts"] for lines in _messages(read_head(_message_file(head)), allow_partial=allow_partial)]
    return pl.concat(frames) if frames else pl.Series("ts", [], dtype=pl.Int64)


FORMATS: Final = (Messages(), OrderBook())
