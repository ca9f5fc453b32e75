"""Raw recordings of Binance streams as the collector of hftbacktest writes them: ``<local time> <JSON>`` per line.

The local time has 16 digits (microseconds) in files of 2023 and 19 (nanoseconds) since 2024. One file holds depth
updates, best quotes, trades and a REST snapshot of the book, and gives each reader its kind.

Trades are those of the stream ``@trade``, one by one, or of ``@aggTrade``, the fills of one taker order at one price
together, where they alone were recorded. They say the same twice, so only one of them is read, whatever else is there.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from toxmid.errors import DataError, TapeWarning
from toxmid.readers.base import Clock, Format, Identity, Lines, Table, code, taker_sold
from toxmid.readers.files import Block, Head, ahead, blocks
from toxmid.readers.jsonlines import LEVELS, decode, is_whole, levels, split
from toxmid.schema import Kind

__all__ = ["FORMATS"]

_FIRST: Final = re.compile(r"\d{16}(?:\d{3})? \{.*")
_DELIVERY: Final = re.compile(r"USD_(?:PERP|\d{6})$")
_FUTURES: Final = re.compile(r'"e":"aggTrade"(?![^\n]*"M":)')  # trades of the spot market have a flag more
_SYMBOL: Final = re.compile(r'"(?:s|symbol)":"([^"]+)"')

_TEXT: Final = pl.String()
_INT: Final = pl.Int64()


def _payload(**fields: Any) -> pl.Struct:
    """Type of a message: the stream wraps what the venue sent in `data`."""
    return pl.Struct({"data": pl.Struct(fields)})


_ORDER: Final = pl.Struct({"s": _TEXT, "S": _TEXT, "ap": _TEXT, "z": _TEXT, "X": _TEXT, "T": _INT})
_DEPTH: Final = pl.Struct(
    {
        "data": pl.Struct(
            {"s": _TEXT, "b": LEVELS, "a": LEVELS} | dict.fromkeys(("T", "E", "U", "u", "pu"), _INT)
        ),
        "lastUpdateId": _INT,
        "symbol": _TEXT,
        "T": _INT,
        "bids": LEVELS,
        "asks": LEVELS,
    }
)
_QUOTE: Final = _payload(s=_TEXT, T=_INT, E=_INT, b=_TEXT, B=_TEXT, a=_TEXT, A=_TEXT)
_TRADE: Final = _payload(s=_TEXT, T=_INT, t=_INT, p=_TEXT, q=_TEXT, X=_TEXT, m=pl.Boolean())
_AGGREGATED: Final = _payload(s=_TEXT, T=_INT, a=_INT, p=_TEXT, q=_TEXT, m=pl.Boolean())
_OF_TRADES: Final = re.compile(rb'^\d+ \{"stream":"[^"@]*@(trade|aggTrade)(?:@|")', re.MULTILINE)
# Every aggregated trade is made of single ones of the same moment: where these are recorded as well, one shows by then.
_SURELY: Final = 10_000  # aggregated trades

# Name of the stream, the kind it feeds, and the type of its messages.
_STREAMS: Final[dict[Kind, tuple[str, pl.Struct]]] = {
    "trades": ("trade", _TRADE),
    "book": ("depth", _DEPTH),
    "quotes": ("bookTicker", _QUOTE),
    "liquidations": ("forceOrder", _payload(E=_INT, o=_ORDER)),
    "mark": ("markPrice", _payload(s=_TEXT, E=_INT, p=_TEXT)),
}
_AGGREGATED_TRADES: Final = ("aggTrade", _AGGREGATED)
# What the rows of the other stream of trades are counted as, by the one that is read.
_SAID_ALREADY: Final = {"trade": ("aggTrade", "aggregated_trades"), "aggTrade": ("trade", "trades_beside_aggregated")}


def _number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64, strict=False)  # what is no number becomes NaN, and the core counts it


class Recording(Format):
    """Lines of ``<local time> <JSON>``."""

    name = "hftbacktest-raw"
    chosen = True  # streams
    nameless = True  # a REST snapshot of the book
    tables = {  # noqa: RUF012 (constant of the class)
        "trades": Table(
            {
                "price": _number("p"),
                "size": _number("q"),
                "side": taker_sold(pl.col("m")),  # m: the buyer was the maker
                "id": pl.col("t").cast(pl.String),
            },
            # Prints of the insurance fund and of auto-deleveraging happen at prices the market never saw.
            excluded={"not_market_trades": pl.col("X").is_not_null() & (pl.col("X") != "MARKET")},
            distinct=("t",),
        ),
        "book": Table(
            {
                "side": pl.col("side"),
                "price": _number("price"),
                "size": _number("size"),
                "snapshot": pl.col("snapshot"),
            },
            excluded={
                "empty_messages": (pl.col("b").list.len() + pl.col("a").list.len()) == 0,
            },
            expand=levels,
            whole=True,
        ),
        "quotes": Table({"bid": _number("b"), "bid_size": _number("B"), "ask": _number("a"), "ask_size": _number("A")}),
        "liquidations": Table(
            {
                "side": code("S", {"BUY": 1, "SELL": -1}),
                "price": _number("ap"),
                "size": _number("z"),
            },
            excluded={"not_filled": pl.col("X") != "FILLED"},
            distinct=("s", "S", "ap", "z", "T"),
        ),
        "mark": Table({"price": _number("p")}),
    }

    def matches(self, head: Head) -> bool:
        return bool(head.lines) and _FIRST.fullmatch(head.lines[0]) is not None

    def clock(self) -> str:
        return "arrival (first field of the line)"

    def identify(self, head: Head) -> Identity:
        text = "\n".join(head.lines)
        symbol = _SYMBOL.search(text)
        if '"ps":' in text or '"pair":' in text or (symbol is not None and _DELIVERY.search(symbol[1])):
            venue = "binance-delivery"
        elif '"pu":' in text or '"e":"bookTicker"' in text or '"X":' in text or _FUTURES.search(text):
            venue = "binance-futures"
        else:
            venue = "binance"
        return Identity(venue, symbol[1] if symbol is not None else None)

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        clock = Clock(("us", "ns"), head.path)
        book = _Book()
        stream = _stream_of_trades(head) if kind == "trades" else _STREAMS[kind]
        said, reason = _SAID_ALREADY.get(stream[0], ("", ""))
        told = False
        for block in ahead(blocks(head.path, allow_partial=allow_partial, is_whole=is_whole)):
            messages, others = _messages(block, kind, head, stream[0])
            twice = int((others == said).sum())
            other = len(others) - twice
            if twice and stream is _AGGREGATED_TRADES and not told:
                told = True
                _warn_of_late_trades(head)
            decoded = _decode(messages, kind, head, stream[1])
            frame = decoded.with_columns(
                clock.nanoseconds(decoded, "local").alias("ts"),
                # Spot quotes and REST snapshots carry no exchange time; then, as vendors do, arrival stands in.
                pl.coalesce(pl.col("event") * 10**6, clock.nanoseconds(decoded, "local")).alias("ts_event"),
            )
            frame = book.follow(frame) if kind == "book" else frame
            excluded = {"other_kinds": other, reason: twice, "partial_last_line": block.partial}
            yield Lines(frame, block.lines + block.partial, {reason: n for reason, n in excluded.items() if n})


FORMATS: Final = (Recording(),)


def _stream_of_trades(head: Head) -> tuple[str, pl.Struct]:
    """The stream that is read as the trades of a file; it depends on nothing but the lines of the file."""
    aggregated = 0
    for block in blocks(head.path, allow_partial=True, is_whole=is_whole, quiet=True):
        for match in _OF_TRADES.finditer(block.view):
            if match[1] == b"trade":
                return _STREAMS["trades"]
            aggregated += 1
            if aggregated == _SURELY:
                return _AGGREGATED_TRADES
    return _AGGREGATED_TRADES if aggregated else _STREAMS["trades"]


def _warn_of_late_trades(head: Head) -> None:
    warnings.warn(
        f"{head.path}: single trades begin after {_SURELY:,} aggregated ones; those are read, the single ones left out",
        TapeWarning,
        stacklevel=2,
    )


def _messages(block: Block, kind: Kind, head: Head, stream: str) -> tuple[pl.DataFrame, pl.Series]:
    """Lines of one kind, still text, and the streams of those of other kinds."""
    text = split(block)
    parts = pl.col("line").str.splitn(" ", 2)
    frame = (
        text.to_frame()
        .select(local=parts.struct[0].cast(pl.Int64, strict=False), json=parts.struct[1])
        .with_row_index("row", block.first_row)
    )
    broken = frame.filter(pl.col("local").is_null() | ~pl.col("json").str.starts_with("{").fill_null(False))
    if broken.height:
        index = broken["row"][0] - block.first_row
        raise DataError(
            "not a recorded message",
            file=str(head.path),
            row=broken["row"][0],
            found=text[index][:60],
            expected="<time> <JSON>",
        )
    named = frame.with_columns(stream=pl.col("json").str.extract(r'^\{"stream":"[^"@]*@([A-Za-z]+)(?:@|")'))
    wanted = (pl.col("stream") == stream).fill_null(False)
    if kind == "book":
        wanted |= pl.col("json").str.starts_with('{"lastUpdateId"')
    return named.filter(wanted).drop("stream"), named.filter(~wanted)["stream"]


def _decode(messages: pl.DataFrame, kind: Kind, head: Head, dtype: pl.Struct) -> pl.DataFrame:
    """Messages of one kind as columns: their fields, `event` (exchange time in ms) and `symbol`."""
    decoded = decode(messages, "json", dtype, head.path)
    if kind == "book":
        return _decoded_book(decoded)
    decoded = decoded.unnest("data")
    if kind == "liquidations":
        decoded = decoded.unnest("o")
    if kind == "trades" and "a" in decoded.columns:
        decoded = decoded.rename({"a": "t"}).with_columns(X=pl.lit(None, pl.String))  # of trades of the market alone
    times = [pl.col(name) for name in ("T", "E") if name in decoded.columns]
    return decoded.with_columns(event=pl.coalesce(times), symbol=pl.col("s") if "s" in decoded.columns else None)


def _decoded_book(decoded: pl.DataFrame) -> pl.DataFrame:
    inner = pl.col("data").struct
    return decoded.select(
        "row",
        "local",
        event=pl.coalesce(inner["T"], inner["E"], "T"),
        symbol=pl.coalesce(inner["s"], "symbol"),
        last=pl.coalesce(inner["u"], "lastUpdateId"),
        # Futures name the update before; spot names the first number that a message covers.
        number=inner["u"],
        follows=pl.coalesce(inner["pu"], inner["U"] - 1),
        covers=pl.col("lastUpdateId"),
        snapshot=pl.col("lastUpdateId").is_not_null(),
        b=pl.coalesce(inner["b"], "bids"),
        a=pl.coalesce(inner["a"], "asks"),
    )


class _Book:
    """Puts REST snapshots and streamed updates of one file in step.

    A snapshot travels slower than the stream: when it arrives, updates newer than it have arrived already. They are put
    into the snapshot, so that it is the book as known at that moment. Without this the book is wrong at the start of
    every recording. (Updates older than the snapshot may still come; their numbers tell them.)
    """

    _KEPT = 1000  # messages; more than a venue sends while a REST call is under way

    def __init__(self) -> None:
        self._recent: pl.DataFrame | None = None

    def follow(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Complete the snapshots among the messages of a block."""
        updates = pl.concat([self._recent, frame]) if self._recent is not None else frame
        for index in frame["snapshot"].arg_true():
            frame = self._complete(frame, index, updates.filter(~pl.col("snapshot")))
        if updates.height:
            self._recent = updates.tail(self._KEPT)
        return frame

    @staticmethod
    def _complete(frame: pl.DataFrame, index: int, updates: pl.DataFrame) -> pl.DataFrame:
        snapshot = frame[index]
        row, last = snapshot["row"][0], snapshot["last"][0]
        earlier = updates.filter(pl.col("row") < row)
        # Numbers from before the venue began to count anew say nothing of what is newer.
        anew = (pl.col("number") < pl.col("number").shift(1)) & (pl.col("follows").shift(-1) == pl.col("number"))
        beginnings = earlier.select(anew.fill_null(False).alias("anew"))["anew"].arg_true()
        newer = earlier[int(beginnings[-1]) if len(beginnings) else 0 :].filter(pl.col("last") > last)
        changes = {half: [_merged(snapshot[half][0].to_list(), newer[half].to_list())] for half in ("b", "a")}
        completed = snapshot.with_columns(pl.Series(half, levels, dtype=LEVELS) for half, levels in changes.items())
        return pl.concat([frame[:index], completed, frame[index + 1 :]])


def _merged(levels: list[list[str]], updates: list[list[list[str]]]) -> list[list[str]]:
    """Half of a book after updates: the last size of each price, without the deleted ones. What is no number stays, for
    the core to count."""
    book = {_figure(level, 0): level[:2] for level in itertools.chain(levels, *updates)}
    return [level for level in book.values() if _figure(level, 1) != 0]


def _figure(level: list[str], index: int) -> float | tuple[str, ...]:
    """Price or size of a level; the level itself where that is no number."""
    try:
        return float(level[index])
    except (ValueError, TypeError, IndexError):
        return tuple(level)
