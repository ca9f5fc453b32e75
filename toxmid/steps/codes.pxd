# Codes that steps return and that faces turn into errors, and the constants all steps share.

from libc.stdint cimport int64_t

cdef extern from *:
    bint unlikely(bint x) noexcept nogil    # of Cython's own preamble: keeps what is rare out of the way of what is not

cdef enum:                  # where volume by side stands in an array: at side + 1
    SOLD = 0
    UNKNOWN = 1
    BOUGHT = 2

cdef enum:
    OK = 0
    ERR_BACKWARDS = -1      # a time before the time of an earlier event
    ERR_MEMORY = -2         # an allocation failed
    ERR_RUNAWAY = -3        # one trade would close more buckets than can be meant
    ERR_TIME_RANGE = -4     # a time outside the years 2009 to 2100: the unit is wrong
    ERR_SIDE = -5           # a side that is none
    ERR_SILENCE = -6        # a silence of more bars than can be meant: the time is wrong, or the tape is two
    ERR_VENUE = -7          # a number that no other venue has

cdef enum:                  # kinds of event, in the order in which those of one time are taken
    TRADE = 0
    LIQUIDATION = 1
    BOOK = 2
    QUOTE = 3
    MARK = 4
    REFERENCE = 5
    OPEN_INTEREST = 6
    KINDS = 7

cdef enum:
    SECOND = 1000000000

cdef enum:                  # why a row was not used; names in _core.pyx
    BAD_PRICE = 0           # no number, not positive, or beyond 1e-15..1e15
    BAD_SIZE = 1            # no number, negative, or beyond what can be counted
    ZERO_SIZE = 2           # a trade of nothing
    BAD_SIDE = 3            # a book row or liquidation of neither side
    BEFORE_SNAPSHOT = 4     # book rows before the first snapshot
    REASONS = 5


cdef inline bint in_our_years(int64_t ts) noexcept nogil:
    """Is a time within 2009..2100, as nanoseconds?"""
    return <int64_t> 1230768000 * SECOND <= ts and ts < <int64_t> 4102444800 * SECOND


cdef inline bint is_price(double x) noexcept nogil:
    """Positive, and of a size that products and counts of ticks can hold; false for NaN. (Prices that `runs` takes lie within.)"""
    return 1e-15 <= x and x <= 1e15


cdef inline double fading(double weight, double kept) noexcept nogil:
    """The factor by which sums with a memory fade: `kept`, and 1 once their weight is so faint that a double could hold it no longer.
    Means are ratios of such sums: left alone, they would end as a ratio of the smallest doubles, which is any number."""
    return kept if weight > 1e-150 else 1.0


cdef inline bint is_size(double x) noexcept nogil:
    """Not negative, and of a size that sums can hold; false for NaN."""
    return 0 <= x and x <= 1e18


cdef struct Tally:
    int64_t used[7]                 # rows used, by Kind
    int64_t rejected[7][5]          # rows rejected, by Kind and reason
    int64_t quotes_crossed          # quotes with bid >= ask: no mid while they stand
    int64_t quotes_one_sided
    int64_t books_crossed           # book messages that left both sides crossed
    int64_t books_repaired          # book messages after which older crossed levels were removed
    int64_t levels_removed          # levels removed by those repairs
    int64_t book_resets             # snapshots
    int64_t sequence_gaps           # places where updates of the book were lost
    int64_t deletes_unknown         # deletes of a level that was not there
    int64_t prices_off_tick         # book prices that lie on no tick
    int64_t liquidations_unmatched  # records for which no trade was found
    int64_t gaps                    # silences longer than Params.gap
