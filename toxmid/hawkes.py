"""How prints breed prints: maximum likelihood of a Hawkes process, for liquidations above all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid import _hawkes
from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.estimates import Estimates
from toxmid.schema import parse_time
from toxmid.tapes import as_frame

__all__ = ["HawkesResult", "hawkes"]

_SECOND: Final = 1e9
_FEWEST: Final = 30
_SHORTEST: Final = 1e-3  # s: half-lives below a venue's clock are about its ticks, not about liquidations
_LARGEST: Final = 5.0  # of one entry of the branching matrix
_FIRST_HALF_LIVES: Final = ((1.0,), (10.0,), (100.0,)), ((1.0, 30.0), (0.1, 10.0), (10.0, 300.0))
_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class HawkesResult(Estimates):
    """Fitted Hawkes process.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of events.
    branching : float
        Events that an event causes, on average and directly: the spectral radius of the matrix of branching, its sum
        over kernels. At 1 and over the process explodes.
    branching_bse : float
        Its standard error (delta method); NaN where the estimates have none.
    matrix : numpy.ndarray, (kinds, kinds)
        Events of the kind of the row that an event of the kind of the column causes.
    half_lives : tuple of float
        Of the kernels, seconds.
    loglike, poisson_loglike : float
        Log likelihood, and that of constant rates.
    events : dict of str to int
        Events by kind; events of one kind at one time are one.
    merged : int
        Events that were so merged.
    seconds : float
        Time observed.
    converged : bool
        Whether the optimiser says so.
    """

    kinds: tuple[str, ...]
    branching: float
    branching_bse: float
    matrix: _Floats
    half_lives: tuple[float, ...]
    loglike: float
    poisson_loglike: float
    events: dict[str, int]
    merged: int
    seconds: float
    converged: bool

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 log likelihood + 2 parameters: less is better."""
        return -2.0 * self.loglike + 2.0 * len(self.values)

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 log likelihood + parameters x log events: less is better."""
        return -2.0 * self.loglike + len(self.values) * float(np.log(sum(self.events.values())))


def hawkes(prints: Any, *, exponentials: int = 1, start: Any = None, end: Any = None) -> HawkesResult:
    """Fit a Hawkes process to the times of prints by maximum likelihood.

    The rate of events of kind d is

    .. math::

        \\lambda_d(t) = \\mu_d + \\sum_e \\sum_p n_{dep} \\, b_p \\sum_{t_j^e < t} e^{-b_p (t - t_j^e)}

    so that an event of kind e causes, directly, :math:`n_{de} = \\sum_p n_{dep}` events of kind d. For one kind n is
    the branching ratio: the share of events that are caused by events.

    Parameters
    ----------
    prints : table, times, or mapping of names to either
        A table with ``ts`` (liquidations), or times (int64 ns or datetime). A mapping of two to four names fits the
        kinds together: ``{"forced": liquidations, "other": sells}``.
    exponentials : {1, 2}
        Kernels p. All kinds share their decays.
    start, end : time, optional
        What was observed. None: from the first print of all to the last.

    Returns
    -------
    HawkesResult
        ``params``: ``mu`` (1/s), ``n``, ``decay`` (1/s); with more kinds or kernels ``mu[sell]``, ``n[sell<-other]``,
        ``n[1]``, ``decay[1]`` and so on, kernels from fast to slow. ``summary()`` prints them.

    Raises
    ------
    DataError
        No column ``ts``, or times that are none.
    NotEnoughDataError
        Fewer than thirty events of a kind.
    ParameterError
        Kinds or kernels that cannot be, prints outside of `start` and `end`.

    Notes
    -----
    Standard errors are from the observed information; NaN for a parameter at its wall (an n at 0, a half-life at a
    millisecond or at all the time observed), and for all where the likelihood is flat. Prints of one time are one
    event, because an instant of several would be explained best by a kernel of no length.

    An n near 1 says little by itself: with long kernels it is found in all history [3]_, and any drift of the rate, a
    day's rhythm or a step, looks like breeding [4]_. About an hour is what can be fitted with significance. Read n
    against its usual level on the same market. A feed throttled to one record a second hides the fast kernel.

    References
    ----------
    .. [1] Hawkes, A. G. (1971). Spectra of some self-exciting and mutually exciting point processes. Biometrika 58.
       doi:10.1093/biomet/58.1.83
    .. [2] Ozaki, T. (1979). Maximum likelihood estimation of Hawkes' self-exciting point processes. Annals of the
       Institute of Statistical Mathematics 31. doi:10.1007/BF02480272
    .. [3] Hardiman, S. J., Bercot, N. and Bouchaud, J.-P. (2013). Critical reflexivity in financial markets: a Hawkes
       process analysis. European Physical Journal B 86. doi:10.1140/epjb/e2013-40107-3
    .. [4] Filimonov, V. and Sornette, D. (2012). Quantifying reflexivity in financial markets: toward a prediction of
       flash crashes. Physical Review E 85. doi:10.1103/PhysRevE.85.056108

    Examples
    --------
    Prints at random, each followed by one more with chance 0.6 within seconds:

    >>> rng = np.random.default_rng(0)
    >>> times = list(rng.uniform(0, 20_000, 800))
    >>> for t in times:
    ...     if rng.random() < 0.6:
    ...         times.append(t + rng.exponential(2.0))
    >>> result = hawkes(1_760_054_400 * 10**9 + np.sort(np.array(times) * 1e9).astype(np.int64))
    >>> bool(abs(result.branching - 0.6) < 3 * result.branching_bse)
    True
    """
    if exponentials not in (1, 2):
        raise ParameterError("exponentials", found=exponentials, expected="1 or 2")
    tape = _Tape.of(prints, start, end)
    walls = float(np.log(2.0)) / max(tape.span, 2 * _SHORTEST), float(np.log(2.0)) / _SHORTEST
    fits = [_maximise(tape, half_lives, walls) for half_lives in _FIRST_HALF_LIVES[exponentials - 1]]
    best = min(fits, key=lambda fit: float(fit.fun))
    return _result(tape, _Theta.of(best.x, tape.kinds, exponentials).sorted(), walls, converged=bool(best.success))


@dataclass(frozen=True)
class _Tape:
    """Events of all kinds in order of time, seconds since the start."""

    names: tuple[str, ...]
    t: _Floats
    kind: _Ints
    span: float
    merged: int

    @property
    def kinds(self) -> int:
        return len(self.names)

    @property
    def counts(self) -> _Ints:
        return np.bincount(self.kind, minlength=self.kinds)

    @classmethod
    def of(cls, prints: Any, start: Any, end: Any) -> _Tape:
        named = dict(prints) if isinstance(prints, Mapping) else {"": prints}
        if not 1 <= len(named) <= _hawkes.LIMITS[0]:
            raise ParameterError("kinds of prints", found=len(named), expected=f"1 to {_hawkes.LIMITS[0]}")
        given = [_times(source) for source in named.values()]
        events = [np.unique(times) for times in given]
        for name, times in zip(named, events, strict=True):
            if times.size < _FEWEST:
                raise NotEnoughDataError(
                    f"too few prints{f' of {name}' if name else ''}", found=times.size, expected=f"{_FEWEST} or more"
                )
        ts, kind = np.concatenate(events), np.repeat(np.arange(len(events)), [times.size for times in events])
        order = np.argsort(ts, kind="stable")
        ts, kind = ts[order], kind[order]
        first = int(ts[0]) if start is None else parse_time(start)
        last = int(ts[-1]) if end is None else parse_time(end)
        if not first <= ts[0] <= ts[-1] <= last or first == last:
            raise ParameterError("prints outside of the time observed", found=int(ts[0]), expected="start to end")
        return cls(
            names=tuple(named),
            t=(ts - first) / _SECOND,
            kind=kind,
            span=(last - first) / _SECOND,
            merged=sum(times.size for times in given) - ts.size,
        )


def _times(source: Any) -> _Ints:
    """Times of a table or a column, ns."""
    if not isinstance(source, pl.Series) and (hasattr(source, "columns") or hasattr(source, "__arrow_c_stream__")):
        frame = as_frame(source)
        if "ts" not in frame.columns:
            raise DataError("column is missing", column="ts", found=", ".join(frame.columns))
        source = frame["ts"]
    times = source if isinstance(source, pl.Series) else pl.Series(np.asarray(source))
    times = times.dt.epoch("ns") if isinstance(times.dtype, pl.Datetime) else times
    if not times.dtype.is_integer() or times.null_count():
        raise DataError("not times", column="ts", found=str(times.dtype), expected="int64 ns or datetime, none missing")
    return times.to_numpy().astype(np.int64)


@dataclass(frozen=True)
class _Theta:
    """Parameters of a process, or derivatives by them."""

    mu: _Floats  # (kinds)
    n: _Floats  # (kinds excited, kinds exciting, kernels)
    b: _Floats  # (kernels)

    @classmethod
    def of(cls, x: _Floats, kinds: int, kernels: int) -> _Theta:
        """From what the optimiser moves: logarithms of rates and decays, n as it is."""
        mu, n, b = np.split(x, [kinds, x.size - kernels])
        return cls(np.exp(mu), n.reshape(kinds, kinds, kernels).copy(), np.exp(b))

    @classmethod
    def plain(cls, values: _Floats, kinds: int, kernels: int) -> _Theta:
        mu, n, b = np.split(values, [kinds, values.size - kernels])
        return cls(mu.copy(), n.reshape(kinds, kinds, kernels).copy(), b.copy())

    def flat(self) -> _Floats:
        return np.concatenate([self.mu, self.n.ravel(), self.b])

    def sorted(self) -> _Theta:
        """Kernels from fast to slow."""
        order = np.argsort(-self.b)
        return _Theta(self.mu, np.ascontiguousarray(self.n[:, :, order]), self.b[order])

    def loglike(self, tape: _Tape) -> tuple[float, _Theta]:
        """Log likelihood and its derivatives."""
        by = _Theta(np.zeros_like(self.mu), np.zeros_like(self.n), np.zeros_like(self.b))
        value = _hawkes.loglike(tape.t, tape.kind, tape.span, self.mu, self.n, self.b, by.mu, by.n, by.b)
        return value, by


def _maximise(tape: _Tape, half_lives: tuple[float, ...], walls: tuple[float, float]) -> Any:
    from scipy.optimize import minimize

    kinds, kernels = tape.kinds, len(half_lives)
    entries = kinds * kinds * kernels
    log_walls = float(np.log(walls[0])), float(np.log(walls[1]))
    first = np.concatenate([
        np.log(0.5 * tape.counts / tape.span),
        np.full(entries, 0.5 / (kinds * kernels)),
        np.clip(np.log(np.log(2.0) / np.array(half_lives)), *log_walls),
    ])  # fmt: skip
    bounds = [(-50.0, 50.0)] * kinds + [(0.0, _LARGEST)] * entries + [log_walls] * kernels

    def cost(x: _Floats) -> tuple[float, _Floats]:
        theta = _Theta.of(x, kinds, kernels)
        value, by = theta.loglike(tape)
        slope = np.concatenate([by.mu * theta.mu, by.n.ravel(), by.b * theta.b])
        return -value / tape.t.size, -slope / tape.t.size

    return minimize(
        cost, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8}
    )


def _covariance(tape: _Tape, theta: _Theta, walls: tuple[float, float]) -> _Floats:
    """Inverse of the observed information, of the parameters that are not at a wall; NaN elsewhere."""
    values, shape = theta.flat(), (tape.kinds, theta.b.size)
    inside = (theta.n > 1e-8) & (theta.n < _LARGEST * (1 - 1e-6))
    decays = (theta.b > walls[0] * (1 + 1e-6)) & (theta.b < walls[1] * (1 - 1e-6))
    free = np.flatnonzero(np.concatenate([theta.mu > 0, inside.ravel(), decays & inside.any(axis=(0, 1))]))
    information = np.empty((free.size, free.size))
    for row, index in enumerate(free):
        step = np.zeros(values.size)
        step[index] = 1e-5 * values[index]
        ahead, behind = (_Theta.plain(values + sign * step, *shape).loglike(tape)[1].flat() for sign in (1.0, -1.0))
        information[row] = -(ahead - behind)[free] / (2.0 * step[index])
    covariance = np.full((values.size, values.size), np.nan)
    symmetric = 0.5 * (information + information.T)
    if np.linalg.matrix_rank(symmetric, hermitian=True) == free.size and np.linalg.eigvalsh(symmetric)[0] > 0:
        covariance[np.ix_(free, free)] = np.linalg.inv(symmetric)
    return covariance


def _radius(matrix: _Floats) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def _radius_error(theta: _Theta, covariance: _Floats) -> float:
    """Standard error of the spectral radius; what stands at a wall is taken as known."""
    entries = slice(theta.mu.size, theta.mu.size + theta.n.size)
    known = covariance[entries, entries]
    free = np.isfinite(np.diag(known))
    gradient = np.zeros(theta.n.size)
    for index in np.flatnonzero(free):
        step = np.zeros(theta.n.size)
        step[index] = 1e-6
        moved = ((theta.n.ravel() + sign * step).reshape(theta.n.shape) for sign in (1.0, -1.0))
        ahead, behind = (_radius(n.sum(axis=2)) for n in moved)
        gradient[index] = (ahead - behind) / 2e-6
    if not free.any():
        return float("nan")
    return float(np.sqrt(gradient[free] @ known[np.ix_(free, free)] @ gradient[free]))


def _names(names: tuple[str, ...], kernels: int) -> list[str]:
    many, tags = len(names) > 1, [f"{p + 1}" if kernels > 1 else "" for p in range(kernels)]

    def name(symbol: str, *parts: str) -> str:
        inside = ",".join(part for part in parts if part)
        return f"{symbol}[{inside}]" if inside else symbol

    return [
        *(name("mu", kind) for kind in names),
        *(name("n", f"{to}<-{of}" if many else "", tag) for to in names for of in names for tag in tags),
        *(name("decay", tag) for tag in tags),
    ]


def _result(tape: _Tape, theta: _Theta, walls: tuple[float, float], *, converged: bool) -> HawkesResult:
    covariance, matrix, counts = _covariance(tape, theta, walls), theta.n.sum(axis=2), tape.counts
    value, _ = theta.loglike(tape)
    branching, error = _radius(matrix), _radius_error(theta, covariance)
    half_lives = tuple((np.log(2.0) / theta.b).tolist())
    values = dict(zip(_names(tape.names, theta.b.size), theta.flat().tolist(), strict=True))
    constant = float((counts * (np.log(counts / tape.span) - 1.0)).sum())
    events = dict(zip(tape.names, counts.tolist(), strict=True))
    notes = ["An n near 1 says little: long kernels and drifting rates show it too. Compare it with its usual level."]
    if branching >= 1.0:
        notes.insert(0, "Branching of 1 or more is no stationary process: the rate drifts, or the time is too short.")
    return HawkesResult(
        title="Hawkes process, exponential kernels, maximum likelihood",
        values=values,
        covariance=covariance,
        kinds=tape.names,
        branching=branching,
        branching_bse=error,
        matrix=matrix,
        half_lives=half_lives,
        loglike=value,
        poisson_loglike=constant,
        events=events,
        merged=tape.merged,
        seconds=tape.span,
        converged=converged,
        facts={
            "Events": ", ".join(f"{name} {count}".strip() for name, count in events.items()),
            "Merged (same time)": f"{tape.merged}",
            "Seconds": f"{tape.span:.6g}",
            "Log likelihood": f"{value:.2f} (constant rates: {constant:.2f})",
            "Branching ratio": f"{branching:.4f} (s.e. {error:.2g})",
            "Half-lives, s": ", ".join(f"{length:.4g}" for length in half_lives),
            "Converged": "yes" if converged else "no",
        },
        notes=tuple(notes),
    )
