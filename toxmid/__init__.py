"""toxmid: in a toxic market, where is the market maker's own mid?

A decent maker widens when pricing is bad for her and tightens when it is good again. Spreads blow out when takers
overwhelm the book and price jumps on little or no volume; the marginal taker then is a forced liquidation. toxmid
replays tick and order-book data, measures flow toxicity, spread widening and price impact per unit of volume, and
infers the maker's mid around the mean price of that flow.
"""

import gc
from importlib import metadata
from typing import TYPE_CHECKING, Any

# All that is loaded stays: looking through it for garbage again and again takes a sixth of the time of the import.
_collects = gc.isenabled()
gc.disable()
try:
    from toxmid import columns
    from toxmid.components import SpreadComponents, glosten_harris, mrr
    from toxmid.engine import Engine, ImpliedMid
    from toxmid.errors import DataError, FileError, NotEnoughDataError, ParameterError, ToxmidError
    from toxmid.hasbrouck import HasbrouckResult, hasbrouck
    from toxmid.hawkes import HawkesResult, hawkes
    from toxmid.impact import amihud, impact
    from toxmid.instrument import Instrument
    from toxmid.ivpin import ivpin
    from toxmid.liquidations import match_liquidations
    from toxmid.markouts import markouts
    from toxmid.microprice import MicroPrice
    from toxmid.params import Params
    from toxmid.readers import read, read_book, read_liquidations, read_quotes, read_trades
    from toxmid.replay import Replay, replay
    from toxmid.simulate import Simulation, simulate
    from toxmid.spreads import classify, spreads
    from toxmid.vpin import vpin
finally:
    if _collects:
        gc.enable()

if TYPE_CHECKING:
    from toxmid.estimator import FitResult, fit

__version__ = metadata.version("toxmid")

__all__ = [
    "DataError",
    "Engine",
    "FileError",
    "FitResult",
    "HasbrouckResult",
    "HawkesResult",
    "ImpliedMid",
    "Instrument",
    "MicroPrice",
    "NotEnoughDataError",
    "ParameterError",
    "Params",
    "Replay",
    "Simulation",
    "SpreadComponents",
    "ToxmidError",
    "__version__",
    "amihud",
    "classify",
    "columns",
    "fit",
    "glosten_harris",
    "hasbrouck",
    "hawkes",
    "impact",
    "ivpin",
    "markouts",
    "match_liquidations",
    "mrr",
    "read",
    "read_book",
    "read_liquidations",
    "read_quotes",
    "read_trades",
    "replay",
    "simulate",
    "spreads",
    "vpin",
]


def __getattr__(name: str) -> Any:
    """Calibration brings statsmodels along, which takes longer to import than all the rest: only who asks waits."""
    if name in ("FitResult", "fit"):
        from toxmid import estimator

        return getattr(estimator, name)
    raise AttributeError(f"module 'toxmid' has no attribute {name!r}")
