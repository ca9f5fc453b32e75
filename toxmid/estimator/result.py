"""What a fit gave: weights, how sure they are, what they were learnt on; as a table and as a file."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from statsmodels.iolib.summary import Summary
from statsmodels.iolib.table import SimpleTable
from statsmodels.iolib.tableformatting import fmt_2cols, fmt_params

from toxmid import output
from toxmid.errors import FileError, ParameterError
from toxmid.estimator.sums import SHIPPED_ON, WEIGHTS
from toxmid.params import Params

__all__ = ["LEVELS", "FitResult"]

FORMAT: Final = "toxmid-coefficients"
FORMAT_VERSION: Final = 1
_WIDTH: Final = 78  # of the text below the tables, as wide as these
LEVELS: Final = np.linspace(0.0, 1.0, 401)  # quantiles kept of the bootstrap


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """Weights of the implied mid, how sure they are, and what they were learnt on.

    Attributes
    ----------
    params : dict of str to float
        The weights to use, by the names of their fields in `Params`: `fitted` where cross-validation says that they are
        better (or where that was forced), else the shipped ones.
    fitted : dict of str to float
        What was learnt, whatever became of it.
    bse : dict of str to float
        Standard errors of `fitted`, by a bootstrap of whole events.
    quantiles : dict of str to tuple of float
        Quantiles of that bootstrap on an even grid from 0 to 1.
    adopted, forced : bool
        Whether `params` are `fitted`, and whether cross-validation was overruled for it.
    r2_mid, r2_mid_defaults : float
        ``1 - error / error of the quoted mid`` in events, of weights learnt without the event that is judged, and of
        the shipped ones. Errors are mean squares against the later mid; an event counts by the inverse of what the
        quoted mid misses in it (and calm would), so that none decides alone.
    r2_defaults : float
        ``1 - error / error of the shipped weights``, in the same way.
    gain, gain_se : float
        By how much the error of an event that is minimised (a logarithm: 0.1 is about a tenth of the mean square) is
        less with weights learnt without it than with the shipped ones, mean over events, and its standard error. The
        decision rests on these.
    better : float
        Share of events in which the learnt weights erred less.
    calm_error : float
        Error between events as a ratio to the quoted mid's there: 1 where the weights do nothing in calm.
    prior_sd : float
        Standard deviation of the priors that cross-validation chose; 3 hardly binds, 0.03 nearly holds.
    events, spells, rows : int
        Independent events; spells that make them up; bars in these.
    left_out : int
        Spells in which the implied mid never left the usual spread, or whose later mid is not known.
    horizon, averaging : str
        The target: the mean mid over `averaging` around the moment `horizon` later.
    feed, instruments, markets : tuple of str
        Kinds of input (``"unknown"`` for a bare table), ``"linear"`` or ``"inverse"``, venue and symbol.
    period : tuple of str
        First and last bar, UTC.
    fitted_on : tuple of str
        The replays.
    engine : dict
        All parameters of the engine that made them, without the weights.
    resamples, seed : int
        Of the bootstrap.
    version : str
        Of toxmid.
    warnings : tuple of str
        What speaks against trusting this.
    """

    params: dict[str, float]
    fitted: dict[str, float]
    bse: dict[str, float]
    quantiles: dict[str, tuple[float, ...]] = dataclasses.field(repr=False)
    adopted: bool
    forced: bool
    r2_mid: float
    r2_mid_defaults: float
    r2_defaults: float
    gain: float
    gain_se: float
    better: float
    calm_error: float
    prior_sd: float
    events: int
    spells: int
    rows: int
    left_out: int
    horizon: str
    averaging: str
    feed: tuple[str, ...]
    instruments: tuple[str, ...]
    markets: tuple[str, ...]
    period: tuple[str, str]
    fitted_on: tuple[str, ...]
    engine: dict[str, Any] = dataclasses.field(repr=False)
    resamples: int
    seed: int
    version: str
    warnings: tuple[str, ...]

    def conf_int(self, alpha: float = 0.05) -> dict[str, tuple[float, float]]:
        """Percentile intervals of `fitted`, from the bootstrap of events.

        Parameters
        ----------
        alpha : float
            One minus the confidence, between 0 and 1.

        Returns
        -------
        dict of str to (float, float)

        Raises
        ------
        ParameterError
            `alpha` outside its range.
        """
        if not 0.0 < alpha < 1.0:
            raise ParameterError("out of range", column="alpha", found=alpha, expected="between 0 and 1")
        ends = (alpha / 2.0, 1.0 - alpha / 2.0)
        intervals = {name: np.interp(ends, LEVELS, values) for name, values in self.quantiles.items()}
        return {name: (float(low), float(high)) for name, (low, high) in intervals.items()}

    def apply(self, params: Params | None = None) -> Params:
        """Parameters with these weights.

        Parameters
        ----------
        params : Params, optional
            Where all else comes from. None: the parameters with which the replays were made that this was learnt on.

        Returns
        -------
        Params
        """
        return (Params.from_dict(self.engine) if params is None else params).replace(**self.params)

    def summary(self) -> Summary:
        """Table of the fit (statsmodels Summary), followed by what it rests on."""
        summary = Summary()
        bounds = self.conf_int()
        rows = [
            [f"{value:.4f}" for value in (self.fitted[name], self.bse[name], *bounds[name], self.params[name])]
            for name in WEIGHTS
        ]
        columns = ["fitted", "std err", "[0.025", "0.975]", "in use"]
        names = [name.removeprefix("weight_") for name in WEIGHTS]
        summary.tables += [self._head(), SimpleTable(rows, columns, names, txt_fmt=fmt_params)]
        summary.add_extra_txt(self._notes())
        return summary

    def _head(self) -> SimpleTable:
        left = {
            "Events:": f"{self.events}", "Spells:": f"{self.spells}", "Bars in events:": f"{self.rows}",
            "Target:": f"{self.averaging} around {self.horizon}", "Prior sd:": f"{self.prior_sd:g}",
            "Resamples:": f"{self.resamples}",
        }  # fmt: skip
        right = {
            "  R2 vs mid, fitted:": f"{self.r2_mid:.4f}", "  R2 vs mid, shipped:": f"{self.r2_mid_defaults:.4f}",
            "  R2 vs shipped:": f"{self.r2_defaults:.4f}", "  Gain (std err):": f"{self.gain:.3g} ({self.gain_se:.2g})",
            "  Better in:": f"{self.better:.0%} of events", "  Calm error vs mid:": f"{self.calm_error:.4f}",
        }  # fmt: skip
        head, other = (
            SimpleTable(
                [[value] for value in facts.values()], stubs=list(facts), title="Calibration of the implied mid",
                txt_fmt=fmt_2cols,
            )
            for facts in (left, right)
        )  # fmt: skip
        head.extend_right(other)
        return head

    def _notes(self) -> list[str]:
        markets = ", ".join(self.markets) or "unnamed"
        lines = [
            f"{self._verdict()} R2 and gain are out of sample: each event from all others.",
            f"Fitted on {_counted(self.fitted_on)}.",
            f"Market: {markets}; {', '.join(self.instruments)}; feed: {', '.join(self.feed)}.",
            f"Period: {self.period[0]} to {self.period[1]}. toxmid {self.version}.",
        ]
        if self.left_out:
            lines.append(f"Left out: {self.left_out} spells within the usual spread or without a later mid.")
        lines += [f"Warning: {warning}" for warning in self.warnings]
        lines.append(f"The shipped weights: {SHIPPED_ON}.")
        return [part for line in lines for part in textwrap.wrap(line, _WIDTH, break_on_hyphens=False)]

    def _verdict(self) -> str:
        if self.forced:
            return "The fitted weights are in use although cross-validation does not say that they are better."
        if self.adopted:
            return "The fitted weights are in use: better than the shipped ones by more than two standard errors."
        if self.r2_mid <= 0.0:
            return "The shipped weights stay: the later mid is predicted no better than by the quoted mid."
        return "The shipped weights stay: the fitted ones are not better by more than two standard errors."

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything as JSON, whole or not at all.

        Raises
        ------
        FileError
            It cannot be written.
        """
        entries = {"format": FORMAT, "format_version": FORMAT_VERSION, **output.to_json(self)}
        output.write_whole(path, (json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode())
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FitResult:
        """Read back what `save` wrote.

        Raises
        ------
        FileError
            The file is missing, is no such file, or is damaged.
        """
        entries = _read_json(Path(path))
        names = [field.name for field in dataclasses.fields(cls)]
        strange = sorted(set(names) ^ set(entries))
        if strange:
            raise FileError("entries are missing or unknown", file=str(path), found=strange)
        try:
            return cls(**{name: _from_json(name, entries[name]) for name in names})._checked()
        except (TypeError, AttributeError, ValueError) as error:
            raise FileError(f"does not hold coefficients: {error}", file=str(path)) from error

    def _checked(self) -> FitResult:
        """Itself, if it can be used."""
        by_weight = (self.params, self.fitted, self.bse, self.quantiles)
        if any(set(entries) != set(WEIGHTS) for entries in by_weight):
            raise ParameterError("weights are missing or unknown", expected=", ".join(WEIGHTS))
        self.apply()
        self.conf_int()
        return self


def _counted(names: tuple[str, ...]) -> str:
    """
    >>> _counted(("a replay in memory", "a replay in memory", "avax"))
    'a replay in memory (2 times), avax'
    """
    return ", ".join(f"{name} ({times} times)" if times > 1 else name for name, times in Counter(names).items())


def _from_json(name: str, value: Any) -> Any:
    """An entry as it was before JSON made lists of tuples and null of what is not a number."""
    if name == "quantiles":
        return {weight: tuple(float(level) for level in levels) for weight, levels in value.items()}
    if name in ("gain_se", "calm_error") and value is None:
        return math.nan
    return tuple(value) if isinstance(value, list) else value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", file=str(path)) from error
    except ValueError as error:
        raise FileError(f"is not valid JSON: {error}", file=str(path)) from error
    if not isinstance(entries, dict) or entries.pop("format", None) != FORMAT:
        raise FileError("is no file of coefficients", file=str(path), expected=f'"format": "{FORMAT}"')
    version = entries.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise FileError(
            "was written in another format; use the toxmid that wrote it",
            file=str(path), found=version, expected=FORMAT_VERSION,
        )  # fmt: skip
    return entries
