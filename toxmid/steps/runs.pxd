# Trades that follow one another, counted together: are they good, and how many lots are they, bought and sold?
#
# What depends on rows alone can be asked of many at once, without a branch: a run of trades whose sums are known is poured into an
# open bucket by its sums, and single trades are looked at where a bucket closes. What a run says is what single steps say, bit for
# bit; of what it is not sure it says nothing, and single steps follow.

from libc.stdint cimport int8_t, int64_t
from toxmid.steps.lots cimport MOST_LOTS, Lots
from toxmid.steps.wide cimport fetch     # and with it the C that stands beside it

cdef enum:
    RUN = 256                   # trades that are counted together

cdef struct Run:                # trades that follow one another, of which sums of lots are known
    int64_t n, taken            # how many, and of them so far
    int64_t total, buy, sell    # lots of those that are left
    const double *coins
    const int8_t *side
    double per_unit

cdef extern from *:
    """
    /* A little more than x: by 2.5 units in its last place, or so many as make 5/3 of them where x is just above a power of two. */
    static inline double toxmid_raised(double x) {
        const double by = 2.5 * 2.220446049250313e-16 * x, up = x + by;
        return up - x > by ? toxmid_real(toxmid_bits(up) - 1) : up;
    }
    /* Lots of a size that is on the grid: adding 1.5 * 2^52 leaves the nearest whole number in the low bits of a double. */
    #define TOXMID_MAGIC 6755399441055744.0
    static inline int64_t toxmid_lots(double coins, double per_unit) {
        return (int64_t) (toxmid_bits(coins * per_unit + TOXMID_MAGIC) - toxmid_bits(TOXMID_MAGIC));
    }
    static int64_t toxmid_bought(const double *coins, const int8_t *side, int64_t n, double per_unit) {
        int64_t bought = 0;
        for (int64_t i = 0; i < n; i++)
            bought += side[i] > 0 ? toxmid_lots(coins[i], per_unit) : 0;
        return bought;
    }
    #if TOXMID_FOURS
    #define TOXMID_CAST(x) ((toxmid_words) (x))
    #define TOXMID_SELLS(eight, sign) TOXMID_CAST(((toxmid_words) {eight, eight, eight, eight} & sign) == sign)
    #define TOXMID_FIRST ((toxmid_words) {0x80, 0x8000, 0x800000, 0x80000000})      /* the signs of eight sides in a word */
    #define TOXMID_SECOND (TOXMID_FIRST << 32)
    __attribute__((always_inline))
    static inline int64_t toxmid_sum(toxmid_words four) {
        return (int64_t) (four[0] + four[1] + four[2] + four[3]);
    }
    #endif
    /* What trades add to the sums, and bits that are not set where they are good: of one trade, or of four abreast, by the types.
       Without a branch or a conversion: doubles of one sign are ordered like their bits, and every condition is the sign of
       something, or bits that must not be set. Lots per coin are raised a little, so that the dust of decimals, of either sign,
       is a few units in the last place above the whole number, and 0 to 7 of them are within the dust of `on_grid`. */
    #define TOXMID_COUNT(s, words, reals, bits, later, price, coins, sells) { \
        reals steps = (coins) * raised, shifted = steps + TOXMID_MAGIC, whole = shifted - TOXMID_MAGIC; \
        words count = bits(shifted) - base;             /* one less than the lots: what is 0, below it, or no number has a bit */ \
        s##_counts |= count;                            /* beyond 48 here */ \
        s##_total += count;                             /* of garbage, which is refused below, sums may wrap */ \
        s##_sold += count & (sells); \
        s##_off |= bits(steps) - bits(whole); \
        s##_back |= (later); \
        s##_prices |= (price) - low; \
    }
    /* Not 0: a time that goes back, a price not within 64 powers of two, too many lots or none, a size between lots. */
    #define TOXMID_BAD(s) (s##_back >> 63 | s##_prices >> 58 | s##_counts >> 49 | s##_off >> 3)
    /* The sums of n <= RUN trades: lots, bought, sold. 1 if every time is in order and not before `now`, every price positive and
       finite, every size positive, countable and on the grid, and every side a side; else 0. It may say 0 of what is all that (a
       price below 2^-32 or above 2^32, a size of more than 2^49 lots, or off the grid by more than a few of its last bits): those
       are taken one by one, with the same result. `more`: ts[n] may be read, and is not before ts[n - 1] either.
       All columns are read abreast, and asked for sixteen lines ahead: what is done with a row fills the window in which a processor
       looks ahead by itself. */
    TOXMID_WIDE
    static int toxmid_count_run(const int64_t *ts, const double *price, const double *coins, const int8_t *side, int64_t n,
                                int more, int64_t now, double per_unit, int64_t *sums) {
        const double raised = toxmid_raised(per_unit);
        const uint64_t base = toxmid_bits(TOXMID_MAGIC) + 1, low = toxmid_bits(2.3283064365386963e-10);     /* 2^-32 */
        uint64_t one_back = (uint64_t) ts[0] - (uint64_t) now, one_prices = 0, one_off = 0, one_counts = 0, bad;
        uint64_t one_total = (uint64_t) n, one_sold = 0;
        int64_t i = 0, rows = more ? n : n - 1;
        int8_t no_side = 0, unknown = 0;
    #if TOXMID_FOURS
        #define TOXMID_HALF(k, sign) { \
            toxmid_words now_four, next_four, price_four; \
            toxmid_reals coins_four; \
            memcpy(&now_four, ts + i + k, 32); \
            memcpy(&next_four, ts + i + k + 1, 32); \
            memcpy(&price_four, price + i + k, 32); \
            memcpy(&coins_four, coins + i + k, 32); \
            TOXMID_COUNT(four, toxmid_words, toxmid_reals, TOXMID_CAST, next_four - now_four, price_four, coins_four, \
                         TOXMID_SELLS(eight, sign)) \
        }
        toxmid_words four_back = {0}, four_prices = {0}, four_off = {0}, four_counts = {0}, four_total = {0}, four_sold = {0};
        for (; i + 8 <= rows; i += 8) {
            uint64_t eight;
            memcpy(&eight, side + i, 8);
            toxmid_fetch_far(ts + i + 128);
            toxmid_fetch_far(price + i + 128);
            toxmid_fetch_far(coins + i + 128);
            TOXMID_HALF(0, TOXMID_FIRST)
            TOXMID_HALF(4, TOXMID_SECOND)
        }
        one_total += (uint64_t) toxmid_sum(four_total);
        one_sold = (uint64_t) toxmid_sum(four_sold);
    #endif
        for (; i < n; i++)
            TOXMID_COUNT(one, uint64_t, double, toxmid_bits, i < rows ? (uint64_t) ts[i + 1] - (uint64_t) ts[i] : 0,
                         toxmid_bits(price[i]), coins[i], (uint64_t) 0 - (uint64_t) (side[i] < 0))
        bad = TOXMID_BAD(one);
        i = 0;
    #if TOXMID_FOURS
        four_back = TOXMID_BAD(four);
        bad |= four_back[0] | four_back[1] | four_back[2] | four_back[3];
        union {toxmid_bytes each; toxmid_words eights;} odd = {{0}}, none = {{0}}, below = {{0}};
        for (; i + 32 <= n; i += 32) {
            toxmid_bytes sides;
            memcpy(&sides, side + i, 32);
            odd.each |= (1 - sides) | (1 + sides);
            none.each |= sides == 0;
            below.each -= sides < 0;                    /* of a run of 256, a byte counts 8 at most */
        }
        for (int k = 0; k < 4; k++) {
            no_side |= odd.eights[k] & 0x8080808080808080u ? -1 : 0;
            unknown |= none.eights[k] != 0;
            one_sold += below.eights[k] * 0x0101010101010101u >> 56;        /* the sum of its bytes */
        }
    #endif
        for (; i < n; i++) {
            no_side |= (int8_t) (1 - side[i]) | (int8_t) (1 + side[i]);
            unknown |= (int8_t) (side[i] == 0);
            one_sold += side[i] < 0;
        }
        sums[0] = (int64_t) one_total;
        sums[2] = (int64_t) one_sold;
        sums[1] = (int64_t) (one_total - one_sold);
        if (bad || no_side < 0)
            return 0;
        if (unknown)
            sums[1] = toxmid_bought(coins, side, n, per_unit);
        return 1;
    }
    /* How many of n trades that `toxmid_count_run` found good together have no more than `room` lots; and their sums. */
    TOXMID_WIDE
    static int64_t toxmid_count_within(const double *coins, const int8_t *side, int64_t n, double per_unit, int64_t room,
                                       int64_t *sums) {
        int64_t total = 0, sold = 0, lots, i = 0;
    #if TOXMID_FOURS
        #define TOXMID_FOUR(k, eight, sign) \
            toxmid_reals size##k; \
            memcpy(&size##k, coins + i + 4 * k, 32); \
            const toxmid_words count##k = TOXMID_CAST(size##k * per_unit + TOXMID_MAGIC) - base; \
            const toxmid_words sold##k = count##k & TOXMID_SELLS(eight, sign);
        const uint64_t base = toxmid_bits(TOXMID_MAGIC);
        toxmid_words sells = {0};
        for (; i + 16 <= n; i += 16) {
            uint64_t low, high;
            memcpy(&low, side + i, 8);
            memcpy(&high, side + i + 8, 8);
            TOXMID_FOUR(0, low, TOXMID_FIRST)
            TOXMID_FOUR(1, low, TOXMID_SECOND)
            TOXMID_FOUR(2, high, TOXMID_FIRST)
            TOXMID_FOUR(3, high, TOXMID_SECOND)
            lots = toxmid_sum((count0 + count1) + (count2 + count3));
            if (total + lots > room)
                break;
            total += lots;
            sells += (sold0 + sold1) + (sold2 + sold3);
        }
        sold = toxmid_sum(sells);
    #endif
        for (; i < n && total + (lots = toxmid_lots(coins[i], per_unit)) <= room; i++) {
            total += lots;
            sold += side[i] < 0 ? lots : 0;
        }
        sums[0] = total;
        sums[1] = total - sold;
        sums[2] = sold;
        return i;
    }
    /* Lots of each of n sizes that `toxmid_count_run` found good. */
    TOXMID_WIDE
    static void toxmid_spell_run(const double *coins, int64_t n, double per_unit, int64_t *lots) {
        for (int64_t i = 0; i < n; i++)
            lots[i] = toxmid_lots(coins[i], per_unit);
    }
    """
    bint count_run "toxmid_count_run"(const int64_t *ts, const double *price, const double *coins, const int8_t *side,
                                      int64_t n, bint more, int64_t now, double per_unit, int64_t *sums) noexcept nogil
    int64_t count_within "toxmid_count_within"(const double *coins, const int8_t *side, int64_t n, double per_unit, int64_t room,
                                               int64_t *sums) noexcept nogil
    void spell_run "toxmid_spell_run"(const double *coins, int64_t n, double per_unit, int64_t *lots) noexcept nogil
    int64_t bought_of "toxmid_bought"(const double *coins, const int8_t *side, int64_t n, double per_unit) noexcept nogil
    int64_t lots_on_grid "toxmid_lots"(double coins, double per_unit) noexcept nogil


cdef inline bint lots_of_run(const Lots *l, int64_t now, const int64_t *ts, const double *price, const double *coins,
                             const int8_t *side, int64_t left, Run *run) noexcept nogil:
    """Lots of the next trades, of those that are left, at once: as many as a run has. False unless every one of them is in order
    of time, good, and on the grid as it stands."""
    cdef int64_t sums[3]
    cdef int64_t n = left if left < RUN else RUN
    if not l.decided or l.contracts:
        return False
    if not count_run(ts, price, coins, side, n, n < left, now, l.grid.per_unit, sums) or l.traded + sums[0] > <int64_t> MOST_LOTS:
        return False
    run.n = n
    run.taken = 0
    run.total = sums[0]
    run.buy = sums[1]
    run.sell = sums[2]
    run.coins = coins
    run.side = side
    run.per_unit = l.grid.per_unit
    return True


cdef inline void run_spell(const Run *run, int64_t *lots) noexcept nogil:
    """Lots of each trade of a run."""
    spell_run(run.coins, run.n, run.per_unit, lots)


cdef inline void _take(Run *run, int64_t count, const int64_t *sums) noexcept nogil:
    """So many of the trades that are left are taken, and what they sum up to with them."""
    run.taken += count
    run.total -= sums[0]
    run.buy -= sums[1]
    run.sell -= sums[2]


cdef inline void run_take_one(Run *run) noexcept nogil:
    cdef int64_t sums[3]
    sums[0] = lots_on_grid(run.coins[run.taken], run.per_unit)
    sums[1] = sums[0] if run.side[run.taken] > 0 else 0
    sums[2] = sums[0] if run.side[run.taken] < 0 else 0
    _take(run, 1, sums)


cdef inline void run_take_all(Run *run, int64_t *sums) noexcept nogil:
    """Take all trades that are left; their sums."""
    sums[0], sums[1], sums[2] = run.total, run.buy, run.sell
    _take(run, run.n - run.taken, sums)


cdef inline void run_take_within(Run *run, int64_t room, int64_t *sums) noexcept nogil:
    """Take trades until the next one would make it more than `room` lots, which all that are left are; the sums of those taken."""
    cdef const double *coins = &run.coins[run.taken]
    cdef const int8_t *side = &run.side[run.taken]
    cdef int64_t count = count_within(coins, side, run.n - run.taken, run.per_unit, room, sums)
    if run.total > run.buy + run.sell:      # not every side is known
        sums[1] = bought_of(coins, side, count, run.per_unit)
    _take(run, count, sums)
