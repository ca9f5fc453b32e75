# Codes that steps return and that faces turn into errors, and the constants all steps share.

from libc.stdint cimport int64_t

cdef enum:
    OK = 0
    ERR_BACKWARDS = -1      # a time before the time of an earlier event
    ERR_MEMORY = -2         # an allocation failed
    ERR_RUNAWAY = -3        # one trade would close more buckets than can be meant
    ERR_TIME_RANGE = -4     # a time outside the years 2009 to 2100: the unit is wrong

cdef enum:                  # kinds of event, in the order in which those of one time are taken
    TRADE = 0
    LIQUIDATION = 1
    BOOK = 2
    QUOTE = 3
    MARK = 4
    REFERENCE = 5
    KINDS = 6

cdef enum:
    SECOND = 1000000000

cdef enum:                  # why a row was not used; names in _core.pyx
    BAD_PRICE = 0           # not finite, or not positive
    BAD_SIZE = 1            # not finite, or negative
    ZERO_SIZE = 2           # a trade of nothing
    BAD_SIDE = 3            # a book row or liquidation of neither side
    BEFORE_SNAPSHOT = 4     # book rows before the first snapshot
    REASONS = 5

cdef struct Tally:
    int64_t used[6]                 # rows used, by Kind
    int64_t rejected[6][5]          # rows rejected, by Kind and reason
    int64_t quotes_crossed          # quotes with bid >= ask: no mid while they stand
    int64_t quotes_one_sided
    int64_t books_crossed           # book messages that left both sides crossed
    int64_t books_repaired          # book messages after which older crossed levels were removed
    int64_t levels_removed          # levels removed by those repairs
    int64_t book_resets             # snapshots
    int64_t deletes_unknown         # deletes of a level that was not there
    int64_t prices_off_tick         # book prices that lie on no tick
    int64_t liquidations_unmatched  # records for which no trade was found
    int64_t gaps                    # silences longer than Params.gap
