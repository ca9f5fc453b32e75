"""What an estimation returns: parameters with their covariance, and a table of them in the manner of statsmodels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from toxmid.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd
    from statsmodels.iolib.summary import Summary

__all__ = ["Estimates", "newey_west_lags"]

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimates:
    """Estimated parameters.

    Attributes
    ----------
    title : str
        What was estimated.
    values : dict of str to float
        Estimates by name.
    covariance : numpy.ndarray, (k, k)
        Of the estimates, in their order; NaN for what has none.
    facts : dict of str to str
        What the estimation rests on, for the head of the table.
    notes : tuple of str
        What else has to be said.
    """

    title: str
    values: dict[str, float]
    covariance: _Floats = field(repr=False)
    facts: dict[str, str] = field(repr=False)
    notes: tuple[str, ...] = field(repr=False)

    @property
    def params(self) -> pd.Series[float]:
        """Estimates by name."""
        return self._series(np.array(list(self.values.values())))

    @property
    def bse(self) -> pd.Series[float]:
        """Standard errors by name."""
        return self._series(np.sqrt(np.diag(self.covariance)))

    @property
    def tvalues(self) -> pd.Series[float]:
        """Estimates over their standard errors."""
        return self.params / self.bse

    @property
    def pvalues(self) -> pd.Series[float]:
        """Chance of a value this far from zero, or farther, were it zero: normal distribution, two sides."""
        from scipy.special import ndtr

        return self._series(2.0 * ndtr(-np.abs(self.tvalues.to_numpy())))

    def cov_params(self) -> pd.DataFrame:
        """Covariance of the estimates."""
        import pandas as pd

        return pd.DataFrame(self.covariance, index=list(self.values), columns=list(self.values))

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Confidence intervals (columns 0 and 1).

        Raises
        ------
        ParameterError
            `alpha` outside (0, 1).
        """
        import pandas as pd
        from scipy.special import ndtri

        if not 0.0 < alpha < 1.0:
            raise ParameterError("out of range", column="alpha", found=alpha, expected="between 0 and 1")
        reach = float(ndtri(1.0 - alpha / 2.0)) * self.bse
        return pd.DataFrame({0: self.params - reach, 1: self.params + reach})

    def summary(self) -> Summary:
        """Table of the estimates (statsmodels Summary)."""
        from statsmodels.iolib.summary import Summary
        from statsmodels.iolib.table import SimpleTable
        from statsmodels.iolib.tableformatting import fmt_2cols, fmt_params

        bounds = self.conf_int()
        columns = (self.params, self.bse, self.tvalues, self.pvalues, bounds[0], bounds[1])
        rows = [
            [f"{value:{form}}" for value, form in zip(row, ("#.5g", "#.3g", ".3f", ".3f", "#.5g", "#.5g"), strict=True)]
            for row in zip(*columns, strict=True)
        ]
        heads = ["coef", "std err", "z", "P>|z|", "[0.025", "0.975]"]
        facts = [[value] for value in self.facts.values()]
        summary = Summary()
        summary.tables += [
            SimpleTable(facts, stubs=[f"{name}:" for name in self.facts], title=self.title, txt_fmt=fmt_2cols),
            SimpleTable(rows, heads, list(self.values), txt_fmt=fmt_params),
        ]
        summary.add_extra_txt(list(self.notes))
        return summary

    def _series(self, values: _Floats) -> pd.Series[float]:
        import pandas as pd

        return pd.Series(values, index=list(self.values))


def newey_west_lags(observations: int, asked: int | None = None) -> int:
    """Lags of a HAC covariance: those asked for, else :math:`\\lfloor 4 (T / 100)^{2/9} \\rfloor`.

    Raises
    ------
    ParameterError
        Fewer than none, or as many as there are observations.
    """
    if asked is None:
        return int(4 * (observations / 100) ** (2 / 9))
    if isinstance(asked, bool) or not isinstance(asked, int) or not 0 <= asked < observations:
        raise ParameterError("lags", found=asked, expected=f"0 or more, and fewer than the {observations} observations")
    return asked
