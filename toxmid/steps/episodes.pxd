# Episodes: spells of widening, sweeps, vacuums and liquidation cascades, each from its onset to the end of its quiet time.

from libc.math cimport NAN, fabs, isnan, log
from libc.stdint cimport int64_t
from toxmid.steps.book cimport ASK, BID
from toxmid.steps.codes cimport ERR_MEMORY
from toxmid.steps.memory cimport Block, block_reserve

cdef enum:
    WIDENING = 0
    SWEEP = 1
    VACUUM = 2
    CASCADE = 3
    EPISODE_KINDS = 4

cdef struct EpisodeRow:         # every field is 8 bytes wide: int64 or double
    int64_t kind
    int64_t ts_start
    int64_t ts_end
    int64_t ts_known
    int64_t side                # of the move; of the forced flow for a cascade
    double move_bps             # farthest displacement of the mid from where it stood before; NaN: there was no mid
    double volume               # base coin
    double bps_per_volume
    double liq_volume           # base coin, liquidation-driven
    double toxic_mean           # at ts_end, as are the next two
    double debiased_mean
    double implied_mid
    double mid_before
    double mid_after            # at ts_known
    double peak                 # largest value of what triggers this kind
    double depth_share          # |net taker flow| over the depth on the side that was hit, as it stood before
    double cancelled_share      # of the depth that went from that side: cancelled, not traded
    int64_t gap                 # 1: nothing traded at all
    int64_t ts_tightened        # a widening: from when on the spread was no longer wide; 0: it was until the end

cdef struct View:               # what every kind of episode sees of a step
    int64_t ts
    double mid
    double coins                # traded since the beginning
    double liquidated           # liquidation-driven since the beginning
    double signed_flow          # liquidation-driven lots of this step, signed
    double toxic_mean, debiased_mean, implied_mid
    double net_coins            # taker flow since the beginning, signed
    int64_t trades              # since the beginning
    int64_t blind               # of them: before anybody could say what was forced
    double depth[2]             # base coin near the mid, by side; NaN: no book
    double traded[2]            # base coin that went from it since the beginning
    double cancelled[2]
    int64_t wide                # 1: the spread is wider than it may be for ever (8 bytes, so that no byte of a View is padding)

cdef struct Episode:
    bint open
    int64_t patience            # ns of quiet after which it is over
    View before                 # the last quiet step
    View last                   # the last hot step
    double farthest             # bps, signed; NaN: no mid yet, or none before it
    double peak
    double flow
    int64_t tightened           # first step of those without a wide spread up to now; 0: it is wide


cdef inline void _note(Episode *e, const View *v, double strength) noexcept nogil:
    cdef double move = 1e4 * log(v.mid / e.before.mid)      # NaN without one of them
    if not fabs(move) <= fabs(e.farthest) and move == move:
        e.farthest = move
    if strength > e.peak:
        e.peak = strength
    e.flow += v.signed_flow


cdef inline void _note_width(Episode *e, const View *v) noexcept nogil:
    if v.wide:
        e.tightened = 0
    elif e.tightened == 0:
        e.tightened = v.ts


cdef inline double _share(double part, double whole) noexcept nogil:
    return part / whole if whole > 0 else NAN


cdef inline void _write_hit_side(const Episode *e, EpisodeRow *row) noexcept nogil:
    """What became of the side that was hit: the asks of a move up, the bids of a move down."""
    cdef int hit = ASK if e.farthest > 0 else BID
    cdef double traded = e.last.traded[hit] - e.before.traded[hit]
    cdef double cancelled = e.last.cancelled[hit] - e.before.cancelled[hit]
    row.depth_share = _share(fabs(e.last.net_coins - e.before.net_coins), e.before.depth[hit])
    row.cancelled_share = _share(cancelled, cancelled + traded)
    if not fabs(e.farthest) > 0:
        row.depth_share = row.cancelled_share = NAN


cdef inline int _write(const Episode *e, int kind, const View *v, Block *rows) noexcept nogil:
    cdef EpisodeRow *row
    cdef double volume = e.last.coins - e.before.coins
    cdef double direction = e.flow if kind == CASCADE and e.flow != 0 else e.farthest
    if block_reserve(rows, sizeof(EpisodeRow)) < 0:
        return ERR_MEMORY
    row = <EpisodeRow *> (rows.data + rows.used)
    rows.used += sizeof(EpisodeRow)
    row.kind = kind
    row.ts_start = e.before.ts
    row.ts_end = e.last.ts
    row.ts_known = v.ts
    row.side = 1 if direction > 0 else (-1 if direction < 0 else 0)
    row.move_bps = e.farthest
    row.volume = volume
    row.bps_per_volume = fabs(e.farthest) / volume if volume > 0 else NAN
    row.liq_volume = e.last.liquidated - e.before.liquidated if e.last.blind == e.before.blind else NAN
    row.toxic_mean = e.last.toxic_mean
    row.debiased_mean = e.last.debiased_mean
    row.implied_mid = e.last.implied_mid
    row.mid_before = e.before.mid
    row.mid_after = v.mid
    row.peak = e.peak
    row.gap = e.last.trades == e.before.trades
    row.ts_tightened = e.tightened if kind == WIDENING else 0
    _write_hit_side(e, row)
    return 0


cdef inline int episode_step(Episode *e, int kind, const View *v, bint hot, bint quiet, double strength,
                             Block *rows) noexcept nogil:
    """`hot`: the trigger is on; `quiet`: it is so far off that an onset would be counted from here."""
    cdef int code
    if not e.open:
        if hot and e.before.ts:
            e.open = True
            e.farthest = NAN
            e.peak = strength
            e.flow = 0.0
            e.last = v[0]
            e.tightened = 0
            _note(e, v, strength)
            _note_width(e, v)
        elif quiet or e.before.ts == 0:
            e.before = v[0]
        return 0
    _note_width(e, v)
    if hot:
        e.last = v[0]
        _note(e, v, strength)
        return 0
    if v.ts - e.last.ts >= e.patience:
        code = _write(e, kind, v, rows)
        e.open = False
        e.before = v[0]
        return code
    return 0
