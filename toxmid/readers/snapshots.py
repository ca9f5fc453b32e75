"""Books that come whole, message after message, as the changes between them.

In a canonical book a snapshot begins with the first flagged row after updates, because a venue may send one snapshot in
several messages. A source whose every message is a whole book would then never clear what vanished from one message to
the next. So the first message stays a snapshot, and each that follows a snapshot directly becomes what changed.
"""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = ["Differences"]

_LEVEL: Final = ("message", "side", "price")


class Differences:
    """Rewrites each whole book that directly follows another as the levels that changed and those that went.

    Frames must come in order; `row` tells the messages apart. The levels of the last message are remembered, so that
    it does not matter where a tape is cut into frames.
    """

    def __init__(self) -> None:
        self._last: pl.DataFrame | None = None  # levels of the last message, if that was a whole book

    def apply(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The same book in fewer rows."""
        if rows.height == 0:
            return rows
        rows = rows.with_columns(message=pl.col("row").rle_id().cast(pl.Int64))
        messages = rows.group_by("message", maintain_order=True).agg(pl.exclude(*_LEVEL, "size").first())
        follows = messages["snapshot"] & messages["snapshot"].shift(1, fill_value=self._last is not None)
        if "gap" in messages.columns:
            follows &= ~messages["gap"]
        following = messages.filter(follows)
        levels = rows.filter("snapshot").select(*_LEVEL, "size")
        if self._last is not None:
            levels = pl.concat([self._last.with_columns(message=pl.lit(-1, pl.Int64)), levels])
        last = messages[-1]
        self._last = levels.filter(pl.col("message") == last["message"][0]) if last["snapshot"][0] else None
        if following.height:
            kept = rows.join(following.select("message"), on="message", how="anti")
            rows = pl.concat([kept, _changes(following, levels).select(kept.columns)]).sort(
                "message", maintain_order=True
            )
        return rows.drop("message")


def _changes(following: pl.DataFrame, levels: pl.DataFrame) -> pl.DataFrame:
    """Levels of each message that are not as they were in the message before, and those that are gone."""
    now = levels.join(following.select("message"), on="message", how="semi")
    before = levels.with_columns(pl.col("message") + 1).join(following.select("message"), on="message", how="semi")
    joined = now.join(before, on=_LEVEL, how="left", suffix="_before", maintain_order="left")
    changed = joined.filter(pl.col("size").ne_missing(pl.col("size_before"))).select(*_LEVEL, "size")
    gone = before.join(now, on=_LEVEL, how="anti").with_columns(size=pl.lit(0.0))
    return pl.concat([changed, gone]).join(following, on="message", how="left").with_columns(snapshot=pl.lit(False))
