"""What is traded: price grid, size grid, and what one contract is worth in base coin.

A tape says how many *contracts* changed hands; every metric wants base coin. Between the two stands the contract value,
which is no column of any tape, so it comes from the user, from a small table of venues, or is assumed, and is always
shown together with where it came from.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from toxmid.errors import ParameterError

__all__ = ["ORIGINS", "Instrument", "decimal_grid"]

ORIGINS: Final = ("given", "known", "found", "assumed", "unknown")
_FIELDS: Final = ("tick", "lot", "contract_value", "inverse", "venue", "symbol")
_NUMBERS: Final = ("tick", "lot", "contract_value")


@dataclass(frozen=True)
class Instrument:
    """One market: its grids, its contract, and where each of these facts came from.

    Parameters
    ----------
    tick : float, optional
        Price grid, in quote currency.
    lot : float, optional
        Size grid: base coin in a linear market, contracts in an inverse one.
    contract_value : float, optional
        Worth of one contract: base coin in a linear market (None or 1: the venue quotes base coin), quote currency
        in an inverse one.
    inverse : bool
        Whether the contract is worth a fixed amount of quote currency and is settled in the base coin.
    venue, symbol : str, optional
        Names as the data vendor writes them, for example ``"binance-delivery"`` and ``"BTCUSD_PERP"``.
    origin : mapping of str to str, optional
        For each field ``"given"`` (by the user), ``"known"`` (table of venues), ``"found"`` (in the data),
        ``"assumed"`` or ``"unknown"``. Filled in when left out. ``inverse=False`` counts as given only when this
        mapping says so, because a default cannot be told from a decision.

    Raises
    ------
    ParameterError
        A grid or contract value that is not a positive number, or an origin that does not exist.

    Notes
    -----
    Size in base coin is ``contracts * contract_value`` in a linear market and ``contracts * contract_value / price``
    in an inverse one.

    Examples
    --------
    >>> perp = Instrument.resolve(None, venue="binance-delivery", symbol="BTCUSD_PERP")
    >>> perp.contract_value, perp.inverse, perp.origin["contract_value"]
    (100.0, True, 'known')
    >>> Instrument.resolve(None, venue="binance-delivery", symbol="DOTUSD_PERP").origin["contract_value"]
    'assumed'
    >>> float(perp.base_size(contracts=5, price=50_000.0))
    0.01
    """

    tick: float | None = None
    lot: float | None = None
    contract_value: float | None = None
    inverse: bool = False
    venue: str | None = None
    symbol: str | None = None
    origin: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
                raise ParameterError(f"{name} must be a number", found=value, expected="a positive number or None")
            if not (math.isfinite(value) and value > 0):
                raise ParameterError(f"{name} must be positive and finite", found=value, expected="> 0")
            object.__setattr__(self, name, float(value))
        if not isinstance(self.inverse, bool):
            raise ParameterError("inverse must be True or False", found=self.inverse)
        object.__setattr__(self, "origin", MappingProxyType(self._completed_origin()))

    def _completed_origin(self) -> dict[str, str]:
        for name, source in self.origin.items():
            if name not in _FIELDS:
                raise ParameterError("origin names no field", found=name, expected=f"one of {', '.join(_FIELDS)}")
            if source not in ORIGINS:
                raise ParameterError(f"origin of {name}", found=source, expected=f"one of {', '.join(ORIGINS)}")
        return {name: self.origin.get(name, "given" if getattr(self, name) else "unknown") for name in _FIELDS}

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled, and instruments travel to worker processes.
        return type(self), (*(getattr(self, name) for name in _FIELDS), dict(self.origin))

    @classmethod
    def resolve(
        cls,
        given: Instrument | None = None,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        found: Mapping[str, float] | None = None,
    ) -> Instrument:
        """Put together what is known of an instrument: the user wins over the table of venues, that over the data.

        Parameters
        ----------
        given : Instrument, optional
            What the user said.
        venue, symbol : str, optional
            What the file says.
        found : mapping, optional
            What the data show: ``tick``, ``lot``, ``contract_value``.

        Returns
        -------
        Instrument

        Examples
        --------
        >>> both = Instrument.resolve(Instrument(tick=0.5), venue="bitmex", symbol="XBTUSD", found={"tick": 1.0})
        >>> both.tick, both.contract_value, dict(both.origin)["tick"]
        (0.5, 1.0, 'given')
        """
        given = given if given is not None else cls()
        facts: dict[str, tuple[Any, str]] = {
            name: (float(value), "found") for name, value in (found or {}).items() if name in _NUMBERS
        }
        facts |= {name: (value, "known") for name, value in (("venue", venue), ("symbol", symbol)) if value}
        facts |= _look_up(given, given.venue or venue, given.symbol or symbol, facts)
        decided = [name for name in _FIELDS if given.origin[name] != "unknown"]
        facts |= {name: (getattr(given, name), given.origin[name]) for name in decided}
        if facts.get("inverse", (False,))[0] and "contract_value" not in facts:
            facts["contract_value"] = (_assumed_inverse_value(given.symbol or symbol), "assumed")
        return cls(
            **{name: value for name, (value, _) in facts.items()},
            origin={name: source for name, (_, source) in facts.items()},
        )

    @property
    def unit(self) -> float:
        """Contract value as a factor: 1 where the venue quotes base coin."""
        return 1.0 if self.contract_value is None else self.contract_value

    @property
    def quotes_base_coin(self) -> bool:
        """Whether sizes of this venue are base coin already."""
        return not self.inverse and self.unit == 1.0

    def base_size(self, contracts: ArrayLike, price: ArrayLike) -> Any:
        """Size in base coin of a number of contracts, elementwise.

        Parameters
        ----------
        contracts : float or array_like
            Size as the venue quotes it.
        price : float or array_like
            Price in quote currency; used only in an inverse market.

        Returns
        -------
        float or ndarray of float64
        """
        notional = np.asarray(contracts, dtype=np.float64) * self.unit
        return notional / np.asarray(price, dtype=np.float64) if self.inverse else notional

    def replace(self, **changes: Any) -> Instrument:
        """Copy with some fields changed; a changed field counts as given unless `origin` says otherwise."""
        kept = {name: source for name, source in self.origin.items() if name not in changes}
        origin = kept | dict.fromkeys(changes.keys() & set(_FIELDS), "given") | dict(changes.pop("origin", {}))
        return dataclasses.replace(self, **changes, origin=origin)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest; `from_dict` takes them back.

        Examples
        --------
        >>> spot = Instrument(tick=0.01)
        >>> Instrument.from_dict(spot.to_dict()) == spot
        True
        """
        return {name: getattr(self, name) for name in _FIELDS} | {"origin": dict(self.origin)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Instrument:
        """Inverse of `to_dict`.

        Raises
        ------
        ParameterError
            A key that is no field.
        """
        strange = sorted(set(values) - {*_FIELDS, "origin"})
        if strange:
            raise ParameterError("no such field of an instrument", found=strange[0], expected=", ".join(_FIELDS))
        return cls(**values)


@dataclass(frozen=True)
class _Market:
    """One line of the table of venues: which symbols, and what one contract of them is worth."""

    venues: frozenset[str]
    symbols: re.Pattern[str]  # group "base": the coin
    inverse: bool = False
    values: Mapping[str, float] = field(default_factory=dict)  # contract value by coin; "*": of every other coin
    assumed: float | None = None  # contract value of a coin that is not listed
    lots: Mapping[str, float] = field(default_factory=dict)  # by coin, "*": every coin

    def facts(self, base: str) -> dict[str, tuple[Any, str]]:
        facts: dict[str, tuple[Any, str]] = {"inverse": (self.inverse, "known")}
        value = self.values.get(base, self.values.get("*"))
        if value is not None:
            facts["contract_value"] = (value, "known")
        elif self.assumed is not None:
            facts["contract_value"] = (self.assumed, "assumed")
        lot = self.lots.get(base, self.lots.get("*"))
        if lot is not None:
            facts["lot"] = (lot, "known")
        return facts


def _market(venues: str, symbols: str, **kwargs: Any) -> _Market:
    return _Market(frozenset(venues.split()), re.compile(symbols), **kwargs)


_WHOLE: Final = {"*": 1.0}  # a lot is one contract

_COIN_MARGINED: Final[dict[str, Any]] = {"inverse": True, "values": {"BTC": 100.0}, "assumed": 10.0, "lots": _WHOLE}

# First match wins. Venue names are those of Tardis; contract values are those of the venues' own contract pages.
_MARKETS: Final = (
    _market("binance-delivery", r"(?P<base>.+)USD_(PERP|\d{6})", **_COIN_MARGINED),
    _market("bitmex", r"(?P<base>XBT)(USD|[FGHJKMNQUVXZ]\d\d)", inverse=True, values={"XBT": 1.0}, lots=_WHOLE),
    _market("bitmex", r"(?P<base>.+)", assumed=1.0),  # quanto and linear contracts: worth differs by symbol
    # Deribit quotes dollars on its inverse futures, in steps of one contract.
    _market(
        "deribit",
        r"(?P<base>BTC|ETH)-(PERPETUAL|\d{1,2}[A-Z]{3}\d\d)",
        inverse=True,
        values={"*": 1.0},
        lots={"BTC": 10.0, "ETH": 1.0},
    ),
    _market("deribit", r"(?P<base>[^-_]+).*", values={"*": 1.0}),  # options and USDC-settled: base coin
    _market("okex-swap okex-futures", r"(?P<base>[^-]+)-USD-.+", **_COIN_MARGINED),
    _market("okex-swap okex-futures", r"(?P<base>[^-]+)-.+", values={"BTC": 0.01, "ETH": 0.1}, assumed=1.0),
    _market("huobi-dm huobi-dm-swap", r"(?P<base>[A-Z]+?)(-USD|_\w\w|\d{6})", **_COIN_MARGINED),
    _market("huobi-dm-linear-swap", r"(?P<base>[^-]+)-.+", values={"BTC": 0.001, "ETH": 0.01}, assumed=1.0),
    _market(
        "bybit", r"(?P<base>[A-Z0-9]+?)USD([FGHJKMNQUVXZ]\d\d|\d{4})?", inverse=True, values={"*": 1.0}, lots=_WHOLE
    ),
    _market("bybit", r"(?P<base>.+)", values={"*": 1.0}),
    _market("cryptofacilities", r"[PF]I_(?P<base>.+)USD.*", inverse=True, values={"*": 1.0}, lots=_WHOLE),
    _market("cryptofacilities", r"[PF]F_(?P<base>.+)USD.*", values={"*": 1.0}),
    _market(
        "binance-futures hyperliquid dydx dydx-v4 ftx bitfinex-derivatives bitget-futures "
        "binance binance-us coinbase bitstamp kraken gemini okex bybit-spot huobi bitfinex "
        "kucoin gate-io upbit bithumb crypto-com bitflyer poloniex bitget",
        r"(?P<base>.+)",
        values={"*": 1.0},
    ),
)


def _look_up(
    given: Instrument, venue: str | None, symbol: str | None, found: Mapping[str, tuple[Any, str]]
) -> dict[str, tuple[Any, str]]:
    """Facts of the table of venues, unless the user says the market is of the other kind.

    An assumption of the table never hides what the data show.
    """
    for market in _MARKETS:
        match = market.symbols.fullmatch((symbol or "").upper())
        if venue not in market.venues or match is None:
            continue
        if given.origin["inverse"] == "given" and given.inverse != market.inverse:
            return {}
        return {
            name: fact for name, fact in market.facts(match["base"]).items() if fact[1] == "known" or name not in found
        }
    return {}


def _assumed_inverse_value(symbol: str | None) -> float:
    """Worth of an inverse contract nobody told us: 100 quote units for Bitcoin, 10 for every other coin."""
    return 100.0 if (symbol or "").upper().startswith(("BTC", "XBT")) else 10.0


def decimal_grid(values: ArrayLike, *, max_decimals: int = 12) -> float | None:
    """Coarsest decimal grid on which all values lie: the greatest common divisor of decimal numbers.

    Parameters
    ----------
    values : array_like of float
        Prices or sizes; values that are not finite or not positive are passed over.
    max_decimals : int
        Values that need more decimals than this lie on no grid.

    Returns
    -------
    float or None
        None where there is no positive value, or no grid.

    Examples
    --------
    >>> decimal_grid([28.41, 28.45, 30.0])
    0.01
    >>> decimal_grid([100.5, 101.0, 103.5])
    0.5
    >>> decimal_grid([1 / 3, 2 / 3]) is None
    True
    """
    array = np.asarray(values, dtype=np.float64)
    array = np.unique(array[np.isfinite(array) & (array > 0)])
    if array.size == 0:
        return None
    for decimals in range(max_decimals + 1):
        scaled = array * 10.0**decimals
        if scaled[-1] >= 2**52:  # beyond this a double has no fraction left, and every value would seem to fit
            return None
        steps = np.rint(scaled)
        # A decimal read from text is the double nearest to it, so dividing back must give the same double.
        if np.array_equal(steps / 10.0**decimals, array):
            return float(int(np.gcd.reduce(steps.astype(np.int64))) / 10**decimals)
    return None
