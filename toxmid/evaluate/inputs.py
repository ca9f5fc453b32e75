"""What a replay of a simulated market is given: one name for every set of inputs, and the ladder of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

from toxmid.errors import ParameterError
from toxmid.simulate import Simulation
from toxmid.venues import OTHER_VENUES

__all__ = ["LADDER", "Feed", "Inputs"]

Feed = Literal["full", "throttled", "none"]
_FEEDS: Final = {"liquidations": "full", "throttled": "throttled"}


@dataclass(frozen=True)
class Inputs:
    """Inputs of a replay of a simulated market; trades are always among them.

    Attributes
    ----------
    quotes, book : bool
        Best prices; the L2 book.
    feed : {"full", "throttled", "none"}
        Every liquidation; at most one per second; no feed, so that the flow's toxicity is inferred.
    mark : bool
        Mark price, and the index that it is made from.
    venues : tuple of str
        Other venues of the coin, of `toxmid.venues.OTHER_VENUES`.

    Raises
    ------
    ParameterError
        A feed or a venue that does not exist.

    Examples
    --------
    >>> Inputs.parse("quotes+liquidations+clean")
    Inputs(quotes=True, book=False, feed='full', mark=False, venues=('clean',))
    >>> str(Inputs.parse("trades"))
    'trades'
    """

    quotes: bool = False
    book: bool = False
    feed: Feed = "none"
    mark: bool = False
    venues: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.feed not in get_args(Feed):
            raise ParameterError("unknown name", column="feed", found=self.feed, expected=", ".join(get_args(Feed)))
        strange = [name for name in self.venues if name not in OTHER_VENUES]
        if strange:
            raise ParameterError("unknown name", column="venues", found=strange, expected=", ".join(OTHER_VENUES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From words joined by ``+``: trades, quotes, book, liquidations or throttled, mark, and names of venues.

        Raises
        ------
        ParameterError
            A word that is none of these, or two kinds of feed.
        """
        words = text.split("+")
        known = ("trades", "quotes", "book", *_FEEDS, "mark", *OTHER_VENUES)
        strange = [word for word in words if word not in known]
        feeds = [_FEEDS[word] for word in words if word in _FEEDS]
        if strange or len(feeds) > 1:
            raise ParameterError("not a set of inputs", column="inputs", found=text, expected="+".join(known))
        return cls(
            quotes="quotes" in words, book="book" in words, feed=feeds[0] if feeds else "none",  # type: ignore[arg-type]
            mark="mark" in words, venues=tuple(name for name in OTHER_VENUES if name in words),
        )  # fmt: skip

    def __str__(self) -> str:
        words = {"quotes": self.quotes, "book": self.book, "liquidations": self.feed == "full",
                 "throttled": self.feed == "throttled", "mark": self.mark}  # fmt: skip
        return "+".join([*(word for word, given in words.items() if given), *self.venues]) or "trades"

    def tapes(self, market: Simulation) -> dict[str, Any]:
        """The arguments of `toxmid.replay`."""
        feeds = {"full": "liquidations", "throttled": "liquidations_throttled"}
        elsewhere = {name: market.references[name] for name in self.venues}
        return {
            "trades": market.trades,
            "quotes": market.quotes if self.quotes else None,
            "book": market.book if self.book else None,
            "liquidations": getattr(market, feeds[self.feed]) if self.feed in feeds else None,
            "mark": market.mark if self.mark else None,
            "reference": next(iter(elsewhere.values()), None) if len(elsewhere) < 2 else elsewhere,
        }


# Every rung is the one before with one thing more, except that a complete feed takes the place of a throttled one.
LADDER: Final = tuple(
    Inputs.parse(text)
    for text in (
        "trades",
        "quotes",
        "quotes+book",
        "quotes+book+throttled",
        "quotes+book+liquidations",
        "quotes+book+liquidations+mark",
        "quotes+book+liquidations+mark+clean",
    )
)
