# Episodes: spells of widening, sweeps, vacuums and liquidation cascades, each from its onset to the end of its quiet time.

from libc.math cimport NAN, fabs, isnan, log
from libc.stdint cimport int64_t
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
    double move_bps             # farthest displacement of the mid from where it stood before
    double volume               # base coin
    double bps_per_volume
    double liq_volume           # base coin, liquidation-driven
    double toxic_mean           # at ts_end, as are the next two
    double debiased_mean
    double implied_mid
    double mid_before
    double mid_after            # at ts_known
    double peak                 # largest value of what triggers this kind

cdef struct View:               # what every kind of episode sees of a step
    int64_t ts
    double mid
    double coins                # traded since the beginning
    double liquidated           # liquidation-driven since the beginning
    double signed_flow          # liquidation-driven lots of this step, signed
    double toxic_mean, debiased_mean, implied_mid

cdef struct Episode:
    bint open
    int64_t patience            # ns of quiet after which it is over
    View before                 # the last quiet step
    View last                   # the last hot step
    double farthest             # bps, signed
    double peak
    double flow


cdef inline void _note(Episode *e, const View *v, double strength) noexcept nogil:
    cdef double move = 1e4 * log(v.mid / e.before.mid) if v.mid > 0 and e.before.mid > 0 else 0.0
    if fabs(move) > fabs(e.farthest):
        e.farthest = move
    if strength > e.peak:
        e.peak = strength
    e.flow += v.signed_flow


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
    row.liq_volume = e.last.liquidated - e.before.liquidated
    row.toxic_mean = e.last.toxic_mean
    row.debiased_mean = e.last.debiased_mean
    row.implied_mid = e.last.implied_mid
    row.mid_before = e.before.mid
    row.mid_after = v.mid
    row.peak = e.peak
    return 0


cdef inline int episode_step(Episode *e, int kind, const View *v, bint hot, bint quiet, double strength,
                             Block *rows) noexcept nogil:
    """`hot`: the trigger is on; `quiet`: it is so far off that an onset would be counted from here."""
    cdef int code
    if not e.open:
        if hot and e.before.ts:
            e.open = True
            e.farthest = 0.0
            e.peak = strength
            e.flow = 0.0
            e.last = v[0]
            _note(e, v, strength)
        elif quiet or e.before.ts == 0:
            e.before = v[0]
        return 0
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
