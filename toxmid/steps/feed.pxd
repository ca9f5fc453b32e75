# How complete a liquidation feed is, from what can be seen of it.
#
# A venue that publishes everything has records that all find their trades, as many in a second as there were, and as much
# volume as the market's state makes one expect. One that publishes the latest order of each second never shows two.

from libc.stdint cimport int64_t
from toxmid.steps.codes cimport SECOND

cdef struct Feed:
    int64_t records
    int64_t prints              # of the open second
    int64_t seconds             # with a record
    int64_t single_seconds      # with exactly one
    int64_t most                # records in one second
    double buy, sell            # base coin published, by side of the forced order


cdef inline void feed_record(Feed *f, int side, double coins) noexcept nogil:
    f.records += 1
    f.prints += 1
    if side > 0:
        f.buy += coins
    else:
        f.sell += coins


cdef inline void feed_step(Feed *f, int64_t ts) noexcept nogil:
    """A step has ended at `ts`: close its second, if it did."""
    if f.prints == 0 or ts % SECOND != 0:
        return
    f.seconds += 1
    f.single_seconds += f.prints == 1
    if f.prints > f.most:
        f.most = f.prints
    f.prints = 0
