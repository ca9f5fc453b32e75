"""Calibration: what weights the terms of the implied mid should have, learnt from past replays.

The implied mid differs from the quoted mid by terms that add up (bps of log price)::

    1e4 ln(implied / mid) = a A + v V + c C + t (1 - k) (D - a A - v V - c C)

with ``A`` the asymmetry of a torn spread, ``V`` what volume does not support, ``C`` what is not credible, ``k`` the
credibility of the price of the moment and ``D = 1e4 ln(debiased_mean / mid)`` the way to the de-biased mean of the
toxic flow. `fit` learns the four weights ``a, v, c >= 0`` and ``0 <= t <= 1``. The target of a second is where the mid
stands *later*: its mean around a horizon. No truth is needed, but the later mid is none where the market is still torn
by then: a dislocation of half an hour, seen with a horizon of five minutes, teaches that the quoted mid was right.

How it learns
-------------
Events, not seconds, are the evidence. An event is a spell in which a term is at work; spells less than five minutes
apart are one, and spells of several replays at the same time are one too, unless it is said that they are independent.
The later mid is what the maker believed plus what has happened since, and what happens since differs from event to
event by orders of magnitude: news that breaks while a term is at work moves the target by far more than any term.
Plain least squares would learn from those events alone, and learns that prices go on as they began. So the errors of
an event have a variance of their own, not less than that of the target in calm. The variances are profiled out, and
every event has the same say, whatever its size [1]_::

    minimise  sum over events  ln(1 + e / s) + ln(1 + e' / s)  +  sum over weights  ((w - w0) / prior_sd)^2

``e`` is the mean square error in the event, ``e'`` that between it and the next, ``s`` the variance of the target in
calm seconds. Between events only the toxic term can be at work, and what it learnt in stress alone would be paid for
there. The minimum is found by non-negative least squares [2]_, the events reweighted until nothing moves.

The weights are drawn towards the shipped ones, ``w0``, as by independent normal priors; how wide these are is chosen by
cross-validation over events. Whether what was learnt may replace the shipped weights is decided by a second
cross-validation around the first, each event being predicted from all others: only where the gain is more than twice
its standard error over events, and where the later mid is predicted better than by the quoted one. Confidence is that
of a bootstrap of whole events [3]_.

What the shipped weights rest on
--------------------------------
They were not learnt by `fit`. One, one, one and nought, and the constants of the engine behind them, are round numbers.
They were chosen on one real cascade (10 October 2025, five coin-margined perpetuals, trades only, judged by the spot
price of the same coins) and on simulated markets, whose maker's mid is known. One cascade is one event, and not every
constant stands on a plateau of it (`bench/plateau.py`).

References
----------
.. [1] Lange, K. L., Little, R. J. A. and Taylor, J. M. G. (1989). Robust statistical modeling using the t distribution.
   Journal of the American Statistical Association 84. doi:10.1080/01621459.1989.10478852
.. [2] Lawson, C. L. and Hanson, R. J. (1995). Solving Least Squares Problems. SIAM. doi:10.1137/1.9781611971217
.. [3] Cameron, A. C., Gelbach, J. B. and Miller, D. L. (2008). Bootstrap-based improvements for inference with
   clustered errors. Review of Economics and Statistics 90. doi:10.1162/rest.90.3.414
"""

from toxmid.estimator.fitting import fit
from toxmid.estimator.result import FitResult
from toxmid.estimator.sums import SHIPPED_ON, WEIGHTS

__all__ = ["SHIPPED_ON", "WEIGHTS", "FitResult", "fit"]
