# Sizes as whole lots: from the tape's own count of contracts, from the worth of a contract, or on the grid of sizes.
#
# In a linear market a lot is worth a fixed amount of coin, and whole lots are found from the sizes themselves. In an inverse one a
# contract's worth in coin lies on no grid, so contracts are counted: as the tape gives them, or from size and price. Where the
# instrument does not say which it is, the first trade decides, for every face alike.

from libc.math cimport fabs, rint
from libc.stdint cimport int8_t, int64_t
from toxmid.steps.codes cimport unlikely
from toxmid.steps.grid cimport Grid, grid_steps, on_grid, on_grid_now

cdef enum:
    RUN = 256                   # trades that are counted together
    GROUP = 16                  # ... and of which an edge is looked for together
    MOST_LOTS = 1000000000000000000     # beyond it no more are counted

cdef struct Run:                # trades that follow one another, as whole lots
    int64_t lots[256]
    int64_t taken               # of them so far
    int64_t total, buy, sell    # lots of those that are left

cdef extern from *:
    """
    #include <math.h>
    #include <stdint.h>
    #include <string.h>
    /* Lots of those of n trades whose sides are below 0. Compilers widen bytes to words by way of all widths between;
       shifted to the top of a word, a byte is its sign at once. */
    #if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define TOXMID_FOURS 1
    typedef int64_t toxmid_four __attribute__((vector_size(32)));
    typedef uint64_t toxmid_words __attribute__((vector_size(32)));
    typedef double toxmid_reals __attribute__((vector_size(32)));
    __attribute__((always_inline))
    #else
    #define TOXMID_FOURS 0
    #endif
    static inline int64_t toxmid_sold(const int64_t *lots, const int8_t *side, int64_t n) {
        uint64_t sold = 0;
        int64_t i = 0;
    #if TOXMID_FOURS
        const toxmid_four first = {56, 48, 40, 32}, second = {24, 16, 8, 0};
        toxmid_four low = {0}, high = {0};
        for (; i + 8 <= n; i += 8) {
            int64_t eight;
            toxmid_four a, b;
            memcpy(&eight, side + i, 8);
            memcpy(&a, lots + i, 32);
            memcpy(&b, lots + i + 4, 32);
            low += a & (((toxmid_four) {eight, eight, eight, eight} << first) < 0);
            high += b & (((toxmid_four) {eight, eight, eight, eight} << second) < 0);
        }
        low += high;
        sold = (uint64_t) low[0] + (uint64_t) low[1] + (uint64_t) low[2] + (uint64_t) low[3];
    #endif
        for (; i < n; i++)
            sold += (uint64_t) (lots[i] & -(int64_t) (side[i] < 0));
        return (int64_t) sold;
    }
    static inline uint64_t toxmid_bits(double x) {
        uint64_t bits;
        memcpy(&bits, &x, 8);
        return bits;
    }
    /* What trades add to the sums, and bits that are not set where they are good: of one trade, or of four abreast, by the types.
       Without a branch or a conversion: adding 1.5 * 2^52 leaves the nearest whole number in the low bits of a double; doubles of
       one sign are ordered like their bits; and every condition is the sign of something, or bits that must not be set. */
    #define TOXMID_COUNT(s, words, reals, bits, later, price, coins, sells, lots) { \
        reals steps = (coins) * per_unit, shifted = steps + magic, whole = shifted - magic; \
        words count = bits(shifted) - base; \
        s.bad |= (later) | ((price) - low) | (high - (price)); \
        s.off |= bits(steps) - bits(whole) + 3;         /* -3 to 4 units in the last place: within the dust of `on_grid` */ \
        s.counts |= count - 1;                          /* what is 0, below it, or no number has a bit beyond 48 here */ \
        s.total += count;                               /* of garbage, which is refused below, sums may wrap */ \
        s.sold += count & (sells); \
        memcpy(lots, &count, sizeof count); \
    }
    /* Lots of n trades and their sums; 1 if every time is in order and not before `now`, every price positive and finite, every
       size positive, countable and on the grid, and every side a side; else 0. It may say 0 of what is all that (a size of more
       than 2^49 lots, or off the grid by more than a few of its last bits): those are taken one by one, with the same result.
       All columns are read abreast, so that the processor fetches ahead in each. */
    TOXMID_WIDE
    static int toxmid_count_run(const int64_t *ts, const double *price, const double *coins, const int8_t *side, int64_t n,
                                int64_t now, double per_unit, int64_t *lots, int64_t *sums) {
        const double magic = 6755399441055744.0;
        const uint64_t base = toxmid_bits(magic), low = toxmid_bits(1e-15), high = toxmid_bits(1e15);   /* is_price of codes.pxd */
        struct {uint64_t bad, off, counts, total, sold;} all = {(uint64_t) ts[0] - (uint64_t) now, 0, 0, 0, 0};
        uint64_t bought;
        int64_t i = 0;
        int8_t no_side = 0, unknown = 0;
    #if TOXMID_FOURS
        #define TOXMID_CAST(x) ((toxmid_words) (x))
        #define TOXMID_HALF(k, shift) { \
            toxmid_words now_four, next_four, price_four; \
            toxmid_reals coins_four; \
            memcpy(&now_four, ts + i + k, 32); \
            memcpy(&next_four, ts + i + k + 1, 32); \
            memcpy(&price_four, price + i + k, 32); \
            memcpy(&coins_four, coins + i + k, 32); \
            TOXMID_COUNT(four, toxmid_words, toxmid_reals, TOXMID_CAST, next_four - now_four, price_four, coins_four, \
                         TOXMID_CAST(sides << shift < 0), lots + i + k) \
        }
        const toxmid_four first = {56, 48, 40, 32}, second = {24, 16, 8, 0};
        struct {toxmid_words bad, off, counts, total, sold;} four = {{0}, {0}, {0}, {0}, {0}};
        for (; i + 8 < n; i += 8) {
            int64_t eight;
            memcpy(&eight, side + i, 8);
            const toxmid_four sides = {eight, eight, eight, eight};
            TOXMID_HALF(0, first)
            TOXMID_HALF(4, second)
        }
        for (int k = 0; k < 4; k++) {
            all.bad |= four.bad[k];
            all.off |= four.off[k];
            all.counts |= four.counts[k];
            all.total += four.total[k];
            all.sold += four.sold[k];
        }
    #endif
        for (; i < n; i++)
            TOXMID_COUNT(all, uint64_t, double, toxmid_bits, i + 1 < n ? (uint64_t) ts[i + 1] - (uint64_t) ts[i] : 0,
                         toxmid_bits(price[i]), coins[i], (uint64_t) 0 - (uint64_t) (side[i] < 0), lots + i)
        for (i = 0; i < n; i++) {
            no_side |= (int8_t) (1 - side[i]) | (int8_t) (1 + side[i]);
            unknown |= (int8_t) (side[i] == 0);
        }
        bought = all.total - all.sold;
        if (unknown)
            for (bought = 0, i = 0; i < n; i++)
                bought += (uint64_t) (lots[i] & -(int64_t) (side[i] > 0));
        sums[0] = (int64_t) all.total;
        sums[1] = (int64_t) bought;
        sums[2] = (int64_t) all.sold;
        return !(all.bad >> 63) && no_side >= 0 && all.counts < (uint64_t) 1 << 49 && all.off <= 7;
    }
    """
    bint count_run "toxmid_count_run"(const int64_t *ts, const double *price, const double *coins, const int8_t *side,
                                      int64_t n, int64_t now, double per_unit, int64_t *lots, int64_t *sums) noexcept nogil
    int64_t sold_of "toxmid_sold"(const int64_t *lots, const int8_t *side, int64_t n) noexcept nogil

cdef struct Lots:
    Grid grid
    bint inverse
    double contract_value       # quote currency, where the market is inverse and it is known; else 0
    bint decided                # the first trade has shown what lots are
    bint contracts              # lots are contracts whose worth in coin varies
    int64_t rounded             # sizes that lie on no grid
    int64_t traded              # lots so far, on a grid of sizes


cdef inline bint _is_decimal(double x) noexcept nogil:
    """Is x a decimal of at most eight places?"""
    cdef double scale = 1.0
    cdef int i
    for i in range(9):
        if on_grid(x * scale) and x * scale > 0.5:
            return True
        scale *= 10.0
    return False


cdef inline void _decide(Lots *l, double coins, int64_t given) noexcept nogil:
    """What are lots here? Unless the instrument says so, the first trade tells: where coin per lot is a round decimal, the
    market is linear and its grid is found from sizes; otherwise the lots that come with the trades are contracts."""
    l.decided = True
    if l.inverse:
        l.contracts = l.contract_value > 0 or given > 0
    else:
        l.contracts = given > 0 and l.grid.decimals >= 0 and not _is_decimal(coins / <double> given)


cdef inline bint lots_countable(const Lots *l, double price, double coins, int64_t given) noexcept nogil:
    """Is a size small enough for sums of its lots to stay within int64?"""
    if given > 0 and (given > <int64_t> 1000000 * 1000000000 or coins > 1e15):
        return False
    if l.contract_value > 0:
        return coins * price <= 1e15 * l.contract_value
    if given > 0 and l.decided and l.contracts:
        return True
    return coins * l.grid.per_unit <= 1e15


cdef inline bint _many(const Lots *l) noexcept nogil:
    return <double> l.traded > 1e10 * l.grid.per_unit


cdef inline int64_t lots_of(Lots *l, double price, double coins, int64_t given, int64_t *finer) noexcept nogil:
    """Lots of a trade of `coins`. `finer` receives the factor by which the grid has just become finer, mostly 1: all
    counts of lots must be multiplied by it."""
    cdef int64_t lots
    finer[0] = 1
    if unlikely(not l.decided):
        _decide(l, coins, given)
    if l.contracts:
        if given > 0:
            return given
        return <int64_t> rint(coins * price / l.contract_value) if l.contract_value > 0 else 0
    if unlikely(not on_grid_now(&l.grid, coins, &lots)):
        if _many(l):                # counts of what has traded must not leave int64 when the grid becomes finer
            l.grid.finest = 4e17 * l.grid.per_unit / <double> l.traded
        lots = grid_steps(&l.grid, coins, finer)
        if l.grid.coarse:
            l.rounded += 1
    if l.traded < <int64_t> MOST_LOTS:
        l.traded = l.traded * finer[0] + lots
    return lots


cdef inline double lots_per_coin(const Lots *l) noexcept nogil:
    """Lots in a base coin; 0 where that varies."""
    return 0.0 if l.contracts else l.grid.per_unit


cdef inline bint lots_of_run(const Lots *l, int64_t now, const int64_t *ts, const double *price, const double *coins,
                             const int8_t *side, int64_t n, Run *run) noexcept nogil:
    """Lots of n <= RUN trades at once; False unless every one of them is in order of time, good, and on the grid as it stands."""
    cdef int64_t sums[3]
    if not l.decided or l.contracts:
        return False
    if not count_run(ts, price, coins, side, n, now, l.grid.per_unit, run.lots, sums) or l.traded + sums[0] > <int64_t> MOST_LOTS:
        return False
    run.taken = 0
    run.total = sums[0]
    run.buy = sums[1]
    run.sell = sums[2]
    return True


cdef inline void run_take(Run *run, int64_t count, int64_t total, int64_t buy, int64_t sell) noexcept nogil:
    """So many of the trades that are left are taken, and so many lots with them."""
    run.taken += count
    run.total -= total
    run.buy -= buy
    run.sell -= sell


cdef inline int64_t run_take_within(Run *run, const int8_t *side, int64_t n, int64_t room, int64_t *buy,
                                    int64_t *sell) noexcept nogil:
    """Take trades of a run of n until the next one would make it more than `room` lots; how many lots these are."""
    cdef int64_t first = run.taken, i = first, total = 0, group, k
    cdef bint known = run.total == run.buy + run.sell
    if run.total <= room:
        total, buy[0], sell[0], i = run.total, run.buy, run.sell, n
    else:
        while i + GROUP <= n:
            group = 0
            for k in range(GROUP):
                group += run.lots[i + k]
            if total + group > room:
                break
            total += group
            i += GROUP
        while total + run.lots[i] <= room:      # not all have room, so this ends
            total += run.lots[i]
            i += 1
        sell[0] = sold_of(&run.lots[first], &side[first], i - first)
        buy[0] = total - sell[0]
        if not known:
            buy[0] = 0
            for k in range(first, i):
                buy[0] += run.lots[k] & -<int64_t> (side[k] > 0)
    run_take(run, i - first, total, buy[0], sell[0])
    return total


cdef inline void lots_took(Lots *l, int64_t lots) noexcept nogil:
    """So many lots of a run were taken: what `lots_of` would have kept of them."""
    l.traded += lots
