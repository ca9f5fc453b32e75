# Volume clocks that begin later than the first one, by shares of a bucket.
#
# VPIN depends on the trade with which its first bucket opens: Bambade (2019), doi:10.4236/jmf.2019.94032. K clocks whose first
# buckets open 0, V / K, 2 V / K ... into the tape show by how much: the least and the greatest of what they say is a range of VPIN.
# The first clock is the engine's own; the later ones keep no rows and no rank, and take every trade by the same steps.

from libc.math cimport NAN
from libc.stdint cimport int64_t
from toxmid.steps.codes cimport ERR_MEMORY
from toxmid.steps.memory cimport Block
from toxmid.steps.volume_clock cimport BucketRow, VolumeClock, clock_fill, clock_prepare, clock_refine

cdef inline int64_t starts_count(const Block *later) noexcept nogil:
    return later.used // <int64_t> sizeof(VolumeClock)


cdef inline VolumeClock *starts_clock(const Block *later, int64_t which) noexcept nogil:
    return &(<VolumeClock *> later.data)[which]


cdef inline void starts_range(const Block *later, double vpin, double *low, double *high) noexcept nogil:
    """Least and greatest of what the first clock says, `vpin`, and the later ones; NaN without later ones, and until all of them
    say something."""
    cdef double value
    cdef int64_t i
    low[0] = high[0] = vpin if later.used else NAN
    for i in range(starts_count(later)):
        value = starts_clock(later, i).vpin
        if value != value or vpin != vpin:
            low[0] = high[0] = NAN
            return
        low[0] = value if value < low[0] else low[0]
        high[0] = value if value > high[0] else high[0]


cdef inline void starts_refine(Block *later, int64_t factor) noexcept nogil:
    """The grid of lots became finer by `factor`."""
    cdef int64_t i
    for i in range(starts_count(later)):
        clock_refine(starts_clock(later, i), factor)


cdef inline void starts_set_lots(Block *later, double lots_per_coin) noexcept nogil:
    cdef int64_t i
    for i in range(starts_count(later)):
        starts_clock(later, i).lots_per_coin = lots_per_coin


cdef inline int starts_take(Block *later, Block *rows, int64_t before, int64_t ts, double price, double coins, int64_t lots,
                            double buy_share, double sell_share) noexcept nogil:
    """A trade (or a bar) that the first clock has taken: the later ones take it, and the rows that it wrote, those from the byte
    `before` on, learn the range that holds now. (That it closes not too many buckets was seen from the first clock.)"""
    cdef VolumeClock *c
    cdef BucketRow *row
    cdef int64_t i
    for i in range(starts_count(later)):
        c = starts_clock(later, i)
        clock_prepare(c, ts, coins, lots)
        if clock_fill(c, ts, price, coins, lots, buy_share, sell_share, 0.0, 0.0) < 0:
            return ERR_MEMORY
    while before < rows.used:
        row = <BucketRow *> (rows.data + before)
        starts_range(later, row.vpin, &row.vpin_lo, &row.vpin_hi)
        before += sizeof(BucketRow)
    return 0
