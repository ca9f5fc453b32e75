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
# phi of the excess half spread that is learnt from how the mid moves when the spread does; nothing is taken off before
# anything is learnt. A maker who expects the flow to know more than she does leaves the other side: phi is below 0.
#
# Whether wide prices were torn shows when she tightens again: a mid that was torn comes back as the spread closes, one
# that was not stays where it is. The share of the way that it comes back, learnt from steps of closing spread alone, is
# how far the value lies from the supported towards the credible track. Widening does not tell the two apart, for news
# and holes both begin so.
#
# After that, where another venue of the coin is watched, the value is held inside the corridor that it allows.
#
# Every term can be weighted (1 unless fitted). A further one, 0 unless fitted, leads to the de-biased mean of the toxic flow as
# far as prices are not credible, so that it too vanishes when nothing is torn.

from libc.math cimport NAN, exp, exp2, fabs, isnan, log, sqrt
from toxmid.steps.calm cimport Calm, Norms, calm_ready
from toxmid.steps.codes cimport fading

cdef struct ImpliedParams:
    double kappa                # credible track: calm sigmas that one normal minute at a normal spread explains
    double support              # supported track: calm sigmas that a normal minute's volume explains
    double relax                # s, half-life of what only volume supported
    double lean                 # share of the way from the credible to the supported track ...
    double lean_limit           # ... unless that is farther than so many spreads
    double both_pulled          # share of that way which is left when the mid stays as the spread closes
    double idle                 # a quiet second counts as this share of its normal volume
    double excess_spreads       # spreads beyond which one side counts as pulled
    double pulled_prior         # phi before anything is learnt
    double pulled_weight        # how much learning it takes to move it, calm spreads squared
    double pulled_least
    double pulled_limit
    double pulled_memory        # s
    double drift_memory         # s, of the drift that is taken off before moves are regressed
    double spread_memory        # s, of the spread that rho is made of
    double volume_memory        # s
    double imbalance_memory     # s
    double weight_asymmetry, weight_volume, weight_credibility, weight_toxic
    double interval_spread      # half width of the interval: of the 30 s spread,
    double interval_gap         # of the distance from the quoted mid,
    double interval_wide        # of the widest that this spread was in the last minutes, beyond what is usual,
    double interval_move        # of the move of the last minutes that its volume does not explain,
    double interval_age         # and of the calm move in the age of the older print
    double interval_memory      # s, half-life of those last minutes

cdef struct Implied:
    ImpliedParams p
    double spread               # bps, with memory; rho is its ratio to the calm spread
    double spread_30            # bps, 30 s memory
    double volume               # units per second, with memory
    double signed_volume, total_volume      # units, with memory
    double last_mid, last_spread            # bps, of the step before
    double drift                # bps a step
    double pulled_num, pulled_den           # regression of mid moves on spread moves,
    double return_num, return_den           # and on those that close it
    double credible, supported  # the two tracks, 1e4 ln(price); NaN: not ready
    double moved                # decaying maximum of the move beyond what its volume explains, bps
    double widest               # decaying maximum of the 30 s spread beyond the usual, bps
    double pulled               # phi
    double returning            # share of the excess half spread that the mid comes back as the spread closes
    double asymmetry            # bps: what the untouched side says
    double volume_gap           # bps: the supported track minus the corrected touch
    double credibility_gap      # bps: the implied mid minus the supported track
    double toxic_gap            # bps: towards the de-biased toxic mean
    double reference_gap        # bps: what the other venue's corridor moves
    double credibility          # 1 / rho^2: 1 when the spread is normal
    double minutes              # by which the credible clock advanced in the last step
    double value, low, high     # quote currency


cdef inline void implied_init(Implied *s) noexcept nogil:
    s.spread = s.spread_30 = s.volume = s.last_mid = s.last_spread = NAN
    s.credible = s.supported = s.value = s.low = s.high = NAN
    s.asymmetry = s.volume_gap = s.credibility_gap = s.toxic_gap = s.reference_gap = NAN
    s.credibility = 1.0


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
    cdef double kept = fading(s.total_volume, exp(-dt / s.p.imbalance_memory))
    cdef double total = buy + sell + unknown
    s.volume = _blend(0.0 if isnan(s.volume) else s.volume, total / dt, dt, s.p.volume_memory)
    s.signed_volume = s.signed_volume * kept + buy - sell
    s.total_volume = s.total_volume * kept + total


cdef inline void _learn_pulled(Implied *s, double dt, double mid, double spread) noexcept nogil:
    """Regress moves of the mid, without their drift, on half the moves of the spread, signed by the flow: 1 where one side
    alone is pulled, or comes back."""
    cdef double kept = exp(-dt / s.p.pulled_memory)
    cdef double x, move, product
    if s.last_mid == s.last_mid and s.last_spread == s.last_spread:
        x = (spread - s.last_spread) * _imbalance(s)
        move = mid - s.last_mid
        product = 2.0 * (move - s.drift) * x
        s.pulled_num = s.pulled_num * kept + product
        s.pulled_den = s.pulled_den * kept + x * x
        s.return_num *= kept
        s.return_den *= kept
        if spread < s.last_spread:
            s.return_num += product
            s.return_den += x * x
        s.drift = _blend(s.drift, move, dt, s.p.drift_memory)
    s.last_mid = mid
    s.last_spread = spread


cdef inline double _shrunk(double num, double den, double prior, double weight, double least,
                           double most) noexcept nogil:
    """What a regression has learnt so far, shrunk towards the prior and kept within limits."""
    cdef double share = (num + prior * weight) / (den + weight)
    if share < least:
        return least
    return share if share < most else most


cdef inline void _judge_sides(Implied *s, const Norms *c) noexcept nogil:
    """phi: how much of the excess half spread the mid moves; and how much it comes back, all of it until something else
    is seen."""
    cdef double weight = s.p.pulled_weight * c.spread * c.spread
    s.pulled = _shrunk(s.pulled_num, s.pulled_den, s.p.pulled_prior, weight, s.p.pulled_least, s.p.pulled_limit)
    s.returning = _shrunk(s.return_num, s.return_den, 1.0, weight, 0.0, 1.0)


cdef inline double _asymmetry(const Implied *s, const Norms *c, double spread) noexcept nogil:
    """Correction for a side that is pulled or eaten, bps; exactly 0 while the spread is not torn."""
    cdef double excess = spread - s.p.excess_spreads * c.spread
    return -0.5 * s.pulled * excess * _imbalance(s) if excess > 0 else 0.0


cdef inline double _gap_of(const Implied *s) noexcept nogil:
    """Implied minus quoted mid, bps."""
    return s.asymmetry + s.volume_gap + s.credibility_gap + s.toxic_gap + s.reference_gap


cdef inline double _half_width(Implied *s, const Calm *c, double dt, double move, double units, double age) noexcept nogil:
    """Half width of the 90 % interval, bps: what the spread, the correction and the last minutes leave open. Of the last
    minutes it is how wide the maker was, and how far the price went beyond four calm sigmas of what traded."""
    cdef double busy = units / c.volume if c.volume > 0 else 1.0
    cdef double gap = _gap_of(s)
    cdef double kept = exp2(-dt / s.p.interval_memory)
    s.moved *= kept
    s.widest *= kept
    move = fabs(move) - 4.0 * c.sigma * (sqrt(busy) if busy > 1.0 else 1.0)
    if move > s.moved:
        s.moved = move
    if s.spread_30 - c.spread > s.widest:
        s.widest = s.spread_30 - c.spread
    return sqrt((s.p.interval_spread * s.spread_30) ** 2 + (s.p.interval_gap * gap) ** 2
                + (s.p.interval_wide * s.widest) ** 2 + (s.p.interval_move * s.moved) ** 2
                + (s.p.interval_age * c.sigma) ** 2 * age / 60.0)


cdef inline void _follow_tracks(Implied *s, const Norms *c, double dt, double y) noexcept nogil:
    """Move both tracks towards the corrected touch y by what volume and credibility allow in this step."""
    cdef double rate = s.volume * 60.0 / c.volume if c.volume > 0 else 1.0
    cdef double kappa = s.p.kappa * c.sigma
    cdef double support = s.p.support * c.sigma
    if rate < s.p.idle:
        rate = s.p.idle
    s.minutes = (rate if rate < 1.0 else 1.0) * s.credibility * dt / 60.0
    s.credible = _follow(s.credible, y, kappa * kappa * s.minutes)
    s.supported += (s.credible - s.supported) * (1.0 - exp2(-dt / s.p.relax))
    s.supported = _follow(s.supported, y, support * support * rate * dt / 60.0)
    if fabs(y - s.credible) < fabs(y - s.supported):
        s.supported = s.credible


cdef inline double _lean(const Implied *s) noexcept nogil:
    """How far the implied mid leans from the supported to the credible track, bps, kept within a few spreads.

    Where the mid stayed as the spread closed, its wide prices were not torn, or both sides alike were: less of the way
    is gone."""
    cdef double share = (1.0 - s.p.lean) * (s.p.both_pulled + (1.0 - s.p.both_pulled) * s.returning)
    cdef double limit = s.p.lean_limit * s.spread_30
    cdef double lead
    lead = share * (s.credible - s.supported)
    if lead > limit:
        return limit
    return lead if lead > -limit else -limit


cdef inline void _nothing_known(Implied *s) noexcept nogil:
    s.value = s.low = s.high = NAN
    s.asymmetry = s.volume_gap = s.credibility_gap = s.toxic_gap = s.reference_gap = NAN


cdef inline bint implied_follow(Implied *s, const Calm *c, double dt, double price, double spread, double buy, double sell,
                                double unknown) noexcept nogil:
    """Advance by one step of `dt` seconds: `buy`, `sell`, `unknown` units traded in it, and it ended at the mid `price` and at
    `spread` (bps). True where the tape implies something; `_gap_of` tells what.

    The tracks follow as soon as anything is known of what is usual, and say nothing before that is known well: a market that
    is torn just then would otherwise be taken as it is found."""
    cdef const Norms *usual = &c.early
    cdef double mid, y
    s.minutes = 0.0
    _track_flow(s, dt, buy, sell, unknown)
    if isnan(price):
        _nothing_known(s)
        return False
    mid = 1e4 * log(price)
    s.spread = _blend(s.spread, spread, dt, s.p.spread_memory)
    s.spread_30 = _blend(s.spread_30, spread, dt, 30.0)
    _learn_pulled(s, dt, mid, spread)
    if isnan(usual.sigma) or isnan(usual.spread):
        _nothing_known(s)
        s.credible = s.supported = mid
        return False
    s.credibility = usual.spread * usual.spread / (s.spread * s.spread) if s.spread > usual.spread else 1.0
    _judge_sides(s, usual)
    s.asymmetry = _asymmetry(s, usual, spread)
    y = mid + s.asymmetry
    if isnan(s.credible):
        s.credible = s.supported = y
    _follow_tracks(s, usual, dt, y)
    if not calm_ready(c):
        _nothing_known(s)
        s.minutes = 0.0
        s.credibility = 1.0
        return False
    s.volume_gap = s.p.weight_volume * (s.supported - y)
    s.credibility_gap = s.p.weight_credibility * _lean(s)
    s.asymmetry *= s.p.weight_asymmetry
    s.toxic_gap = s.reference_gap = 0.0
    return True


cdef inline void implied_conclude(Implied *s, const Calm *c, double dt, double price, double age, double move, double units,
                                  double toxic, bint held, double centre, double corridor) noexcept nogil:
    """What is implied at the end of a step that `implied_follow` has taken: `age` (s) is that of the older print where the tape
    stands in for quotes, else 0; `move` the 60 s move (bps) on `units` of volume; `toxic` the de-biased mean of the toxic flow
    so far (NaN: there was none); where `held`, other venues allow `corridor` bps around `centre`."""
    cdef double mid = 1e4 * log(price)
    cdef double y, half, allowed
    if s.p.weight_toxic > 0 and toxic == toxic:
        s.toxic_gap = s.p.weight_toxic * (1.0 - s.credibility) * (1e4 * log(toxic) - mid - _gap_of(s))
    half = _half_width(s, c, dt, move, units, age)
    if held:
        y = mid + _gap_of(s)
        if fabs(y - centre) > corridor:
            s.reference_gap = centre - y + (corridor if y > centre else -corridor)
            allowed = sqrt(4.0 * corridor * corridor + (s.p.interval_gap * s.reference_gap) ** 2)
            if allowed < half:
                half = allowed
    # Exactly the quoted mid where nothing is taken off: a logarithm and back would round.
    s.value = price * exp(1e-4 * _gap_of(s)) if _gap_of(s) != 0.0 else price
    s.low = s.value * exp(-1e-4 * half)
    s.high = s.value * exp(1e-4 * half)
