# The implied mid: where the maker's own mid is, given how credible the prices of the moment are.
#
# A maker widens when pricing is bad for her and tightens when it is good again. A price made while she is tight is believed at
# once; one made while she is wide only slowly, however much volume trades there. Two tracks follow the quoted mid at two
# speeds, and the implied mid lies between them:
#
#   credible   believes a displacement e after (e rho / (kappa sigma))^2 normal minutes of trading, rho being the spread in
#              calm spreads: the diffusion law, slowed by the square of the spread. More than normal volume buys no more belief.
#   supported  follows as far as the square-root law says the volume itself can have moved the price, whatever the spread;
#              what it followed fades to the credible track, as the impact of uninformed flow does.
#
# Before that, the touch is corrected for a side that was pulled or eaten: the value lies nearer the untouched side, by a share
# phi of the excess half spread that is learnt from how the mid moves when the spread does.

from libc.math cimport NAN, exp, exp2, fabs, isnan, log, sqrt
from libc.stdint cimport int64_t
from toxmid.steps.calm cimport Calm, calm_ready

cdef struct ImpliedParams:
    double kappa                # credible track: calm sigmas that one normal minute at a normal spread explains
    double support              # supported track: calm sigmas that a normal minute's volume explains
    double relax                # s, half-life of what only volume supported
    double lean                 # share of the way from the credible to the supported track ...
    double lean_limit           # ... unless that is farther than so many spreads
    double idle                 # a quiet second counts as this share of its normal volume
    double excess_spreads       # spreads beyond which one side counts as pulled
    double pulled_prior         # phi before anything is learnt
    double pulled_weight        # how much learning it takes to move it, calm spreads squared
    double pulled_limit
    double pulled_memory        # s
    double spread_memory        # s, of the spread that rho is made of
    double volume_memory        # s
    double imbalance_memory     # s
    double interval_spread      # half width of the interval: of the 30 s spread,
    double interval_gap         # of the distance from the quoted mid,
    double interval_widening    # of the excess spread of the last minutes,
    double interval_move        # of the excess move of the last minutes,
    double interval_sigma       # and of the calm move of a minute
    double interval_memory      # s, half-life of those last minutes

cdef struct Implied:
    ImpliedParams p
    double spread               # bps, with memory; rho is its ratio to the calm spread
    double spread_30            # bps, 30 s memory
    double volume               # lots per second, with memory
    double signed_volume, total_volume      # lots, with memory
    double last_mid, last_spread            # bps, of the step before
    double pulled_num, pulled_den           # regression of mid moves on spread moves
    double credible, supported  # the two tracks, 1e4 ln(price); NaN: not ready
    double widened, moved       # decaying maxima of excess spread and excess move, bps
    double asymmetry            # bps: what the untouched side says
    double displacement         # bps: implied minus the corrected touch
    double credibility          # 1 / rho^2: 1 when the spread is normal
    double value, low, high     # quote currency


cdef inline void implied_init(Implied *s) noexcept nogil:
    s.spread = s.spread_30 = s.volume = s.last_mid = s.last_spread = NAN
    s.credible = s.supported = s.value = s.low = s.high = NAN
    s.asymmetry = s.displacement = NAN
    s.credibility = 1.0


cdef inline void implied_refine(Implied *s, int64_t factor) noexcept nogil:
    s.volume *= factor
    s.signed_volume *= factor
    s.total_volume *= factor


cdef inline double _blend(double old, double new, double dt, double memory) noexcept nogil:
    """Exponential moving average; the first value starts it."""
    cdef double kept = exp(-dt / memory)
    return new if isnan(old) else kept * old + (1.0 - kept) * new


cdef inline double _follow(double track, double y, double budget) noexcept nogil:
    """Move a track towards y: a displacement whose square is within the budget is believed whole."""
    cdef double e = y - track
    cdef double rest = e * e - budget
    if rest <= 0:
        return y
    return y - sqrt(rest) if e > 0 else y + sqrt(rest)


cdef inline double _imbalance(const Implied *s) noexcept nogil:
    return s.signed_volume / s.total_volume if s.total_volume > 0 else 0.0


cdef inline void _track_flow(Implied *s, double dt, double buy, double sell, double unknown) noexcept nogil:
    cdef double kept = exp(-dt / s.p.imbalance_memory)
    cdef double total = buy + sell + unknown
    s.volume = _blend(0.0 if isnan(s.volume) else s.volume, total / dt, dt, s.p.volume_memory)
    s.signed_volume = s.signed_volume * kept + buy - sell
    s.total_volume = s.total_volume * kept + total


cdef inline void _learn_pulled(Implied *s, double dt, double mid, double spread) noexcept nogil:
    """Regress moves of the mid on half the moves of the spread, signed by the flow: 1 where one side alone is pulled."""
    cdef double kept = exp(-dt / s.p.pulled_memory)
    cdef double x
    if s.last_mid == s.last_mid and s.last_spread == s.last_spread:
        x = (spread - s.last_spread) * _imbalance(s)
        s.pulled_num = s.pulled_num * kept + 2.0 * (mid - s.last_mid) * x
        s.pulled_den = s.pulled_den * kept + x * x
    s.last_mid = mid
    s.last_spread = spread


cdef inline double _asymmetry(const Implied *s, const Calm *c, double spread) noexcept nogil:
    """Correction for a side that is pulled or eaten, bps; exactly 0 while the spread is not torn."""
    cdef double excess = spread - s.p.excess_spreads * c.spread
    cdef double prior, share
    if not excess > 0:
        return 0.0
    prior = s.p.pulled_weight * c.spread * c.spread
    share = s.p.pulled_prior
    if s.pulled_den + prior > 0:
        share = (s.pulled_num + s.p.pulled_prior * prior) / (s.pulled_den + prior)
    if share < 0.0:
        share = 0.0
    elif share > s.p.pulled_limit:
        share = s.p.pulled_limit
    return -0.5 * share * excess * _imbalance(s)


cdef inline void _interval(Implied *s, const Calm *c, double dt, double spread, double move) noexcept nogil:
    """90 % interval around the value: what the spread, the correction and the last minutes leave open."""
    cdef double fade = exp2(-dt / s.p.interval_memory)
    cdef double gap = s.asymmetry + s.displacement
    cdef double half
    s.widened *= fade
    s.moved *= fade
    if s.spread_30 - 3.0 * c.spread > s.widened:
        s.widened = s.spread_30 - 3.0 * c.spread
    if move == move and fabs(move) - 4.0 * c.sigma > s.moved:
        s.moved = fabs(move) - 4.0 * c.sigma
    half = 1e-4 * sqrt((s.p.interval_spread * s.spread_30) ** 2 + (s.p.interval_gap * gap) ** 2
                       + (s.p.interval_widening * s.widened) ** 2 + (s.p.interval_move * s.moved) ** 2
                       + (s.p.interval_sigma * c.sigma) ** 2)
    s.low = s.value * exp(-half)
    s.high = s.value * exp(half)


cdef inline void _nothing_known(Implied *s) noexcept nogil:
    s.value = s.low = s.high = s.asymmetry = s.displacement = NAN


cdef inline double implied_step(Implied *s, const Calm *c, double dt, double price, double spread, double move,
                                double buy, double sell, double unknown) noexcept nogil:
    """Advance by one step of `dt` seconds in which `buy`, `sell`, `unknown` lots traded and which ended at the quoted mid
    `price` and at `spread` (bps), `move` being the 60 s move (bps). Returns the minutes by which the credible clock advanced.
    """
    cdef double mid, y, rho, sigma, minutes, lead, limit
    _track_flow(s, dt, buy, sell, unknown)
    if isnan(price):
        _nothing_known(s)
        return 0.0
    mid = 1e4 * log(price)
    s.spread = _blend(s.spread, spread, dt, s.p.spread_memory)
    s.spread_30 = _blend(s.spread_30, spread, dt, 30.0)
    _learn_pulled(s, dt, mid, spread)
    if not calm_ready(c):
        _nothing_known(s)
        s.credible = s.supported = mid
        return 0.0
    # A tape that stood still in all its history must not freeze the mid: a quarter spread is the least that moves.
    sigma = c.sigma if c.sigma > 0.25 * c.spread else 0.25 * c.spread
    rho = s.spread / c.spread if c.spread > 0 and s.spread > c.spread else 1.0
    s.credibility = 1.0 / (rho * rho)
    s.asymmetry = _asymmetry(s, c, spread)
    y = mid + s.asymmetry
    if isnan(s.credible):
        s.credible = s.supported = y
    minutes = s.volume * dt / c.volume
    if minutes < s.p.idle * dt / 60.0:
        minutes = s.p.idle * dt / 60.0
    s.supported += (s.credible - s.supported) * (1.0 - exp2(-dt / s.p.relax))
    s.supported = _follow(s.supported, y, s.p.support * s.p.support * sigma * sigma * minutes)
    if minutes > dt / 60.0:
        minutes = dt / 60.0
    minutes *= s.credibility
    s.credible = _follow(s.credible, y, s.p.kappa * s.p.kappa * sigma * sigma * minutes)
    if fabs(y - s.credible) < fabs(y - s.supported):
        s.supported = s.credible
    lead = (1.0 - s.p.lean) * (s.credible - s.supported)
    limit = s.p.lean_limit * s.spread_30
    if lead > limit:
        lead = limit
    elif lead < -limit:
        lead = -limit
    s.displacement = s.supported + lead - y
    # Exactly the quoted mid where nothing is taken off: a logarithm and back would round.
    s.value = price if s.displacement == 0.0 and s.asymmetry == 0.0 else exp(1e-4 * (y + s.displacement))
    _interval(s, c, dt, spread, move)
    return minutes
