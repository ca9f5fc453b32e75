# The price-level book of one instrument: absolute sizes by side and price, best levels, depth.
#
# Each side keeps the levels near its best in a window of ticks (an array, with a bit per occupied tick so that the next
# best level is found by counting zeros); levels far from it live in a hash table and come in when the window moves.
# The best level of a side is always inside its window.
# The best that a side remembers is only a bound while rows arrive (a delete leaves it); it is looked up when a message has ended.
# Rows of one time are one message: whether the book is crossed is judged when the message has ended. Then, if levels
# that this message set cross older ones of the other side, the older ones are stale (a delete was missed) and are removed;
# if two sides of the same message cross each other, nothing tells which is right: the book stands as crossed, without a mid.

from libc.math cimport NAN, fabs
from libc.stdint cimport int8_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from toxmid.steps.codes cimport BAD_PRICE, BAD_SIDE, BAD_SIZE, BOOK, ERR_MEMORY, Tally, is_price, is_size, unlikely
from toxmid.steps.grid cimport Grid, grid_init, grid_steps, on_grid_now
from toxmid.steps.memory cimport Block, block_reserve
from toxmid.steps.touch cimport where
from toxmid.steps.wide cimport fetch

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    static __inline int toxmid_low_bit(unsigned long long x) { unsigned long i; _BitScanForward64(&i, x); return (int) i; }
    static __inline int toxmid_high_bit(unsigned long long x) { unsigned long i; _BitScanReverse64(&i, x); return (int) i; }
    #else
    #define toxmid_low_bit(x) __builtin_ctzll(x)
    #define toxmid_high_bit(x) (63 - __builtin_clzll(x))
    #endif
    #define toxmid_max_of(a, b) ((a) > (b) ? (a) : (b))
    """
    int low_bit "toxmid_low_bit"(uint64_t x) noexcept nogil
    int high_bit "toxmid_high_bit"(uint64_t x) noexcept nogil
    int64_t max_of "toxmid_max_of"(int64_t a, int64_t b) noexcept nogil

cdef extern from *:
    """
    #include <math.h>
    #include <stdint.h>
    #include <string.h>
    #define TOXMID_NOWHERE (-((int64_t) 1 << 62))
    /* The greater of each two of 2 n numbers. */
    #define TOXMID_HALVE(from, to, n) \
        for (i = 0; i < (n); i++) \
            (to)[i] = (from)[2 * i] > (from)[2 * i + 1] ? (from)[2 * i] : (from)[2 * i + 1];
    /* Codes of n rows, see `Rows`; 1 if their times are in order, every price positive, at most
       `most_price`, and on the grid as it stands, every size a size, every side a side, no row after a gap, and all or none of a
       snapshot; else 0. NULL: a column of zeros.
       Without a branch or a conversion, as in lots.pxd: positive doubles are ordered like their bits, and conditions are signs. */
    TOXMID_WIDE
    static int toxmid_count_rows(const int64_t *ts, const double *price, const double *size, const int8_t *side,
                                 const uint8_t *snapshot, const uint8_t *gap, int64_t n, double per_unit, double most_price,
                                 uint64_t *codes) {
        const double magic = 6755399441055744.0, most_steps = 1e15;
        const double least_price = 1e-15, most_size = 1e18;      /* is_price and is_size of codes.pxd */
        uint64_t base, low, high, steps_top, size_top;
        int64_t bad = 0, i;
        uint8_t no_side = 0, marked = 0, plain = 0;
        memcpy(&base, &magic, 8);
        memcpy(&low, &least_price, 8);
        memcpy(&high, &most_price, 8);
        memcpy(&steps_top, &most_steps, 8);
        memcpy(&size_top, &most_size, 8);
        for (i = 1; i < n; i++)
            bad |= (int64_t) ((uint64_t) ts[i] - (uint64_t) ts[i - 1]);
        for (i = 0; i < n; i++) {
            double steps = price[i] * per_unit;
            double shifted = steps + magic;
            double room = TOXMID_DUST * steps - fabs(steps - (shifted - magic));
            uint64_t price_bits, steps_bits, shifted_bits, room_bits;
            memcpy(&price_bits, &price[i], 8);
            memcpy(&steps_bits, &steps, 8);
            memcpy(&shifted_bits, &shifted, 8);
            memcpy(&room_bits, &room, 8);
            bad |= (int64_t) (price_bits | (price_bits - low) | (high - price_bits) | (steps_top - steps_bits) | room_bits);
            codes[i] = (shifted_bits - base) << 3;
        }
        for (i = 0; i < n; i++) {
            uint64_t size_bits;
            memcpy(&size_bits, &size[i], 8);
            bad |= (int64_t) (size_bits | (size_top - size_bits));
            codes[i] |= size[i] > 0;
        }
        for (i = 1; i < n; i++)
            codes[i] |= ts[i] != ts[i - 1] ? 2 : 0;
        for (i = 0; i < n; i++)
            codes[i] |= (uint64_t) (int64_t) side[i] & 4;
        for (i = 0; i < n; i++)
            no_side |= (side[i] != 1) & (side[i] != -1);
        if (snapshot)
            for (i = 0; i < n; i++) {
                marked |= snapshot[i] != 0;
                plain |= snapshot[i] == 0;
            }
        if (gap)
            for (i = 0; i < n; i++)
                no_side |= gap[i];
        return bad >= 0 && !no_side && !(marked && plain);
    }
    /* Tops of the whole groups of n rows, see `Rows`. */
    TOXMID_WIDE
    static void toxmid_find_tops(const uint64_t *codes, int64_t n, int64_t *bid_tops, int64_t *ask_tops) {
        int64_t bids[256], asks[256], pairs[128], fours[64], i;
        for (i = 0; i < n; i++) {
            int64_t tick = (int64_t) (codes[i] >> 3);
            bids[i] = (codes[i] & 5) == 1 ? tick : TOXMID_NOWHERE;
            asks[i] = (codes[i] & 5) == 5 ? -tick : TOXMID_NOWHERE;
        }
        TOXMID_HALVE(bids, pairs, n / 2)
        TOXMID_HALVE(pairs, fours, n / 4)
        TOXMID_HALVE(fours, pairs, n / 8)
        TOXMID_HALVE(pairs, bid_tops, n / 16)
        TOXMID_HALVE(asks, pairs, n / 2)
        TOXMID_HALVE(pairs, fours, n / 4)
        TOXMID_HALVE(fours, pairs, n / 8)
        TOXMID_HALVE(pairs, ask_tops, n / 16)
    }
    /* Four sums of doubles in one register, where the compiler has a word for it: left to itself it keeps each in its own. */
    #if TOXMID_FOURS
    typedef toxmid_reals toxmid_sums;
    #define TOXMID_ADD(sums, from) {toxmid_sums more; memcpy(&more, from, 32); sums += more;}
    #else
    typedef double toxmid_sums[4];
    #define TOXMID_ADD(sums, from) for (i = 0; i < 4; i++) sums[i] += (from)[i];
    #endif
    /* Sum of slots first..last of a window, in sixteen sums of every sixteenth slot: so many additions need not wait for one
       another, and the same ones are made on every machine. Slots are read by sixteen, a window being whole words of 64. */
    TOXMID_WIDE
    static double toxmid_add_slots(const double *sizes, const uint64_t *bits, int64_t first, int64_t last) {
        toxmid_sums a = {0}, b = {0}, c = {0}, d = {0};
        double part[16];
        int64_t slot, i;
        for (slot = first & ~(int64_t) 15; slot <= last; slot += 16) {
            const double *here = sizes + slot;
            if (bits[slot >> 6] == 0) {
                slot |= 48;
                continue;
            }
            if (slot < first || slot + 15 > last) {
                for (i = 0; i < 16; i++)
                    part[i] = slot + i >= first && slot + i <= last ? here[i] : 0.0;
                here = part;
            }
            TOXMID_ADD(a, here)
            TOXMID_ADD(b, here + 4)
            TOXMID_ADD(c, here + 8)
            TOXMID_ADD(d, here + 12)
        }
        return ((a[0] + b[0]) + (c[0] + d[0])) + ((a[1] + b[1]) + (c[1] + d[1]))
            + (((a[2] + b[2]) + (c[2] + d[2])) + ((a[3] + b[3]) + (c[3] + d[3])));
    }
    """
    double add_slots "toxmid_add_slots"(const double *sizes, const uint64_t *bits, int64_t first,
                                        int64_t last) noexcept nogil
    bint count_rows "toxmid_count_rows"(const int64_t *ts, const double *price, const double *size, const int8_t *side,
                                        const uint8_t *snapshot, const uint8_t *gap, int64_t n, double per_unit,
                                        double most_price, uint64_t *codes) noexcept nogil
    void find_tops "toxmid_find_tops"(const uint64_t *codes, int64_t n, int64_t *bid_tops, int64_t *ask_tops) noexcept nogil

cdef enum:
    BID = 0
    ASK = 1
    MIN_WINDOW = 16384          # ticks; a power of two and a multiple of 4096
    MAX_WINDOW = 1048576
    MIN_TABLE = 256             # slots of the hash table of far levels; a power of two
    MOST_ROWS = 256             # rows whose ticks are found together
    GROUP = 16                  # of them, rows of which it is known how near they come to the other side

cdef extern from *:
    const int64_t NOWHERE "TOXMID_NOWHERE"      # the front of a side without levels: any other is farther

cdef struct FarLevel:
    int64_t tick
    double size                 # 0: a free slot

cdef struct Side:
    int64_t sign                # +1 bids, -1 asks: ticks times sign rise towards the market
    int64_t base                # tick of the first slot of the window
    int64_t window              # slots; 0: no level yet
    int64_t front               # no tick times sign is greater; that of the best level once the message has been judged
    int64_t words               # words of `bits` with an occupied tick
    int64_t reach               # slots where a row changes nothing but its own level: the window, 0 while no level is in it
    int64_t far_count
    Block sizes                 # double[window]
    Block bits                  # uint64[window / 64]: occupied ticks
    Block groups                # uint64[window / 4096]: occupied words of `bits`
    Block far                   # FarLevel[power of two]: open addressing, at most half full
    double near_price           # limit up to which changes of depth are counted; NaN: they are not
    int64_t near                # the same, the last tick times sign; beyond every level while there is no limit
    double added, removed, traded           # base coin up to there, in the open step
    double replaced             # what stood up to there before the snapshot of the open message; NaN: nothing did

cdef struct Book:
    int64_t message_ts          # of the open message
    bint open                   # rows arrived since the last judgement
    bint seeded                 # a snapshot has been seen
    bint need_seed              # rows before the first snapshot are skipped
    bint in_snapshot            # the last row was part of a snapshot
    bint crossed                # judged: stands crossed
    bint replacing              # the open message is a snapshot: its changes are counted whole, when it has ended
    Grid ticks
    Side sides[2]
    Block touched               # int64: what the open message set, 2 tick + side

cdef struct Table:              # columns of a book
    const int64_t *ts
    const int8_t *side
    const double *price
    const double *size
    const uint8_t *snapshot     # NULL: no row is
    const uint8_t *gap          # NULL: no row is

cdef struct Rows:               # rows of a table that can be taken without another look at them
    int64_t next, stop          # row to be taken next; row behind the last
    int64_t first               # row of the first code
    int64_t single              # up to here rows are taken one by one
    int64_t tops[2][16]         # by side: the best tick times sign that a group sets, of groups that are whole
    uint64_t codes[256]         # 8 tick + 4 if an ask + 2 if later than the row before + 1 if a level is set, 0 if deleted


cdef inline void count_up_to(Side *s, double price, int64_t tick) noexcept nogil:
    """From now on changes of depth are counted up to this limit; NaN: they are not."""
    s.near_price = price
    s.near = tick * s.sign if price == price else -NOWHERE


cdef inline void book_init(Book *b, double tick, bint need_seed) noexcept nogil:
    b.need_seed = need_seed
    grid_init(&b.ticks, tick, 1e8)
    b.sides[BID].sign = 1
    b.sides[ASK].sign = -1
    b.sides[BID].front = b.sides[ASK].front = NOWHERE
    count_up_to(&b.sides[BID], NAN, 0)
    count_up_to(&b.sides[ASK], NAN, 0)


# --- the window of one side ------------------------------------------------------------------------------------------

# Rows set and delete, of both sides, at random: a branch on what a row is would be guessed wrongly half of the time, and cost
# more than everything that it decides. So sides are told apart by arithmetic with their sign, here and wherever a row passes.

cdef inline bint _inside(const Side *s, int64_t tick) noexcept nogil:
    return <uint64_t> (tick - s.base) < <uint64_t> s.window


cdef inline bint _better(const Side *s, int64_t tick, int64_t than) noexcept nogil:
    return (tick - than) * s.sign > 0


cdef inline void _mark_word(Side *s, int64_t word, uint64_t occupied) noexcept nogil:
    """A word of `bits` was empty, or is: note that, and whether the window is."""
    cdef uint64_t *group = &(<uint64_t *> s.groups.data)[word >> 6]
    cdef uint64_t was = group[0] >> (word & 63) & 1
    if was == occupied:
        return
    group[0] ^= <uint64_t> 1 << (word & 63)
    s.words += <int64_t> occupied - <int64_t> was
    s.reach = s.window if s.words else 0
    if s.words == 0:
        s.front = -NOWHERE      # so that nobody takes it for a side without anything to see to


cdef inline uint64_t _mark(Side *s, int64_t slot, uint64_t stands) noexcept nogil:
    """Note whether a level stands (1) or not (0) in a slot; did one before?"""
    cdef uint64_t *word = &(<uint64_t *> s.bits.data)[slot >> 6]
    cdef uint64_t before = word[0]
    cdef uint64_t stood = before >> (slot & 63) & 1
    cdef uint64_t after = before ^ ((stood ^ stands) << (slot & 63))
    word[0] = after
    if unlikely((before & after) == 0):         # the word was empty, or is
        _mark_word(s, slot >> 6, after != 0)
    return stood


cdef inline int64_t _slot_above(const Side *s, int64_t slot) noexcept nogil:
    """First occupied slot >= slot, or -1."""
    cdef const uint64_t *bits = <const uint64_t *> s.bits.data
    cdef const uint64_t *groups = <const uint64_t *> s.groups.data
    cdef int64_t word, group
    cdef uint64_t x
    if slot >= s.window:
        return -1
    word = slot >> 6
    x = bits[word] & (~(<uint64_t> 0) << (slot & 63))
    if x:
        return (word << 6) + low_bit(x)
    word += 1
    if word >= s.window >> 6:
        return -1
    group = word >> 6
    x = groups[group] & (~(<uint64_t> 0) << (word & 63))
    while x == 0:
        group += 1
        if group >= s.window >> 12:
            return -1
        x = groups[group]
    word = (group << 6) + low_bit(x)
    return (word << 6) + low_bit(bits[word])


cdef inline int64_t _slot_below(const Side *s, int64_t slot) noexcept nogil:
    """Last occupied slot <= slot, or -1."""
    cdef const uint64_t *bits = <const uint64_t *> s.bits.data
    cdef const uint64_t *groups = <const uint64_t *> s.groups.data
    cdef int64_t word, group
    cdef uint64_t x
    if slot < 0:
        return -1
    word = slot >> 6
    x = bits[word] & (~(<uint64_t> 0) >> (63 - (slot & 63)))
    if x:
        return (word << 6) + high_bit(x)
    word -= 1
    if word < 0:
        return -1
    group = word >> 6
    x = groups[group] & (~(<uint64_t> 0) >> (63 - (word & 63)))
    while x == 0:
        group -= 1
        if group < 0:
            return -1
        x = groups[group]
    word = (group << 6) + high_bit(x)
    return (word << 6) + high_bit(bits[word])


cdef inline int64_t _count_levels(const Side *s) noexcept nogil:
    """Levels inside the window."""
    cdef int64_t count = 0, slot = _slot_above(s, 0) if s.words else -1
    while slot >= 0:
        count += 1
        slot = _slot_above(s, slot + 1)
    return count


cdef inline bint side_next(const Side *s, int64_t *tick) noexcept nogil:
    """Move `tick` to the first level at or behind it (away from the market), inside the window; False: there is none."""
    cdef int64_t slot = _slot_below(s, tick[0] - s.base) if s.sign > 0 else _slot_above(s, tick[0] - s.base)
    tick[0] = s.base + slot
    return slot >= 0


cdef inline uint64_t _set_level(Side *s, int64_t slot, double size, uint64_t stands) noexcept nogil:
    """What a row does to a slot of the window: a level of that size stands there (1), or none (0); did one before?"""
    (<double *> s.sizes.data)[slot] = size
    return _mark(s, slot, stands)


cdef inline void _raise_front(Side *s, int64_t tick, uint64_t stands) noexcept nogil:
    """Let the bound of the best hold for a level that stands now as well."""
    s.front = max_of(s.front, ((tick * s.sign ^ NOWHERE) & -<int64_t> stands) ^ NOWHERE)


cdef inline uint64_t _put_near(Side *s, int64_t tick, double size) noexcept nogil:
    """Set (size > 0) or delete (size == 0) a level inside the window; was there one before?"""
    cdef uint64_t stood = _set_level(s, tick - s.base, size, size > 0)
    _raise_front(s, tick, size > 0)
    return stood


cdef inline int64_t side_top(const Side *s) noexcept nogil:
    """Tick of the best level inside the window; behind every tick where there is none."""
    cdef int64_t tick = (s.front if s.words else NOWHERE) * s.sign
    cdef int64_t slot = tick - s.base
    if s.words and not (<const uint64_t *> s.bits.data)[slot >> 6] >> (slot & 63) & 1:
        side_next(s, &tick)
    return tick


cdef inline double slots_sum(const Side *s, int64_t first, int64_t last) noexcept nogil:
    """Base coin in slots first..last of the window. Near the market nearly every slot is occupied, so they are added up where
    they stand, empty ones with them; only words without a level are passed over."""
    return add_slots(<const double *> s.sizes.data, <const uint64_t *> s.bits.data, first if first > 0 else 0,
                     last if last < s.window else s.window - 1)


# --- the far levels of one side --------------------------------------------------------------------------------------

cdef inline int64_t _far_slot(const FarLevel *table, int64_t slots, int64_t tick) noexcept nogil:
    """Where `tick` is, or the free slot where it would go."""
    cdef int64_t at = <int64_t> ((<uint64_t> tick * <uint64_t> 0x9E3779B97F4A7C15) >> 32) & (slots - 1)
    while table[at].size > 0 and table[at].tick != tick:
        at = (at + 1) & (slots - 1)
    return at


cdef inline int _far_room(Side *s) noexcept nogil:
    """Keep the table at most half full."""
    cdef int64_t slots = s.far.used // <int64_t> sizeof(FarLevel)
    cdef int64_t i, more
    cdef FarLevel *table
    cdef FarLevel *old
    if 2 * (s.far_count + 1) <= slots:
        return 0
    more = 2 * slots if slots else MIN_TABLE
    old = <FarLevel *> malloc((slots + 1) * sizeof(FarLevel))
    if old == NULL:
        return ERR_MEMORY
    if slots:
        memcpy(old, s.far.data, s.far.used)
    s.far.used = 0
    if block_reserve(&s.far, more * sizeof(FarLevel)) < 0:
        free(old)
        return ERR_MEMORY
    s.far.used = more * sizeof(FarLevel)
    memset(s.far.data, 0, s.far.used)
    table = <FarLevel *> s.far.data
    for i in range(slots):
        if old[i].size > 0:
            table[_far_slot(table, more, old[i].tick)] = old[i]
    free(old)
    return 0


cdef inline void _far_erase(Side *s, int64_t at) noexcept nogil:
    """Free a slot and close the gap it leaves in its run."""
    cdef int64_t slots = s.far.used // <int64_t> sizeof(FarLevel)
    cdef FarLevel *table = <FarLevel *> s.far.data
    cdef FarLevel moved
    table[at].size = 0
    s.far_count -= 1
    at = (at + 1) & (slots - 1)
    while table[at].size > 0:
        moved = table[at]
        table[at].size = 0
        table[_far_slot(table, slots, moved.tick)] = moved
        at = (at + 1) & (slots - 1)


cdef inline int _put_far(Side *s, int64_t tick, double size, uint64_t *stood) noexcept nogil:
    """Set or delete a level outside the window."""
    cdef int64_t at
    cdef FarLevel *table
    cdef int code = _far_room(s)
    if code < 0:
        return code
    table = <FarLevel *> s.far.data
    at = _far_slot(table, s.far.used // <int64_t> sizeof(FarLevel), tick)
    stood[0] = table[at].size > 0
    if size > 0:
        table[at].tick = tick
        table[at].size = size
        s.far_count += 0 if stood[0] else 1
    elif stood[0]:
        _far_erase(s, at)
    return 0


cdef inline double far_sum(const Side *s, int64_t limit) noexcept nogil:
    """Base coin of the far levels up to a tick. Few limits reach out of the window: then the whole table is looked through."""
    cdef const FarLevel *table = <const FarLevel *> s.far.data
    cdef double total = 0
    cdef int64_t i
    if s.far_count == 0 or _inside(s, limit):
        return 0.0
    for i in range(s.far.used // <int64_t> sizeof(FarLevel)):
        if table[i].size > 0 and (table[i].tick - limit) * s.sign >= 0:
            total += table[i].size
    return total


cdef inline double far_next(const Side *s, int64_t *tick) noexcept nogil:
    """Move `tick` to the first far level at or behind it; its size, 0 where there is none."""
    cdef const FarLevel *table = <const FarLevel *> s.far.data
    cdef int64_t i, found = -1
    for i in range(s.far.used // <int64_t> sizeof(FarLevel)):
        if table[i].size > 0 and not _better(s, table[i].tick, tick[0]) and (
                found < 0 or _better(s, table[i].tick, table[found].tick)):
            found = i
    if found < 0:
        return 0.0
    tick[0] = table[found].tick
    return table[found].size


# --- moving the window -----------------------------------------------------------------------------------------------

cdef inline int _lay_window(Side *s, int64_t base, int64_t window) noexcept nogil:
    """An empty window of that place and size."""
    s.sizes.used = s.bits.used = s.groups.used = 0
    if (block_reserve(&s.sizes, window * 8) < 0 or block_reserve(&s.bits, window >> 3) < 0
            or block_reserve(&s.groups, window >> 9) < 0):
        return ERR_MEMORY
    s.sizes.used = window * 8
    s.bits.used = window >> 3
    s.groups.used = window >> 9
    memset(s.sizes.data, 0, s.sizes.used)
    memset(s.bits.data, 0, s.bits.used)
    memset(s.groups.data, 0, s.groups.used)
    s.base = base
    s.window = window
    s.words = s.reach = 0
    s.front = NOWHERE
    return 0


cdef inline int64_t _unload(const Side *s, FarLevel *out) noexcept nogil:
    """Copy every level of a side, near and far; how many."""
    cdef const FarLevel *table = <const FarLevel *> s.far.data
    cdef int64_t i, slot, n = 0
    for i in range(s.far.used // <int64_t> sizeof(FarLevel)):
        if table[i].size > 0:
            out[n] = table[i]
            n += 1
    slot = _slot_above(s, 0) if s.window else -1
    while slot >= 0:
        out[n].tick = s.base + slot
        out[n].size = (<double *> s.sizes.data)[slot]
        n += 1
        slot = _slot_above(s, slot + 1)
    return n


cdef inline int _relay(Side *s, int64_t centre, int64_t window, int64_t factor) noexcept nogil:
    """Lay the window around `centre`; `factor` > 1 when ticks have become finer by it."""
    cdef FarLevel *levels = <FarLevel *> malloc((_count_levels(s) + s.far_count + 1) * sizeof(FarLevel))
    cdef int64_t i, n
    cdef uint64_t stood = 0
    cdef int code
    if levels == NULL:
        return ERR_MEMORY
    n = _unload(s, levels)
    s.far_count = 0
    if s.far.used:
        memset(s.far.data, 0, s.far.used)
    code = _lay_window(s, centre - (window >> 1), window)
    for i in range(n):
        if code == 0:
            if _inside(s, levels[i].tick * factor):
                _put_near(s, levels[i].tick * factor, levels[i].size)
            else:
                code = _put_far(s, levels[i].tick * factor, levels[i].size, &stood)
    free(levels)
    return code


cdef inline int _fetch_far(Side *s) noexcept nogil:
    """When the window has run empty and far levels remain: lay it around the best of them."""
    cdef const FarLevel *table = <const FarLevel *> s.far.data
    cdef int64_t i, best = 0
    cdef bint any = False
    if s.words or s.far_count == 0:
        return 0
    for i in range(s.far.used // <int64_t> sizeof(FarLevel)):
        if table[i].size > 0 and (not any or _better(s, table[i].tick, best)):
            best = table[i].tick
            any = True
    return _relay(s, best, s.window, 1)


cdef inline int _place(Side *s, int64_t tick, double size, uint64_t *stood) noexcept nogil:
    """Set or delete a level wherever it belongs; the window follows the best."""
    cdef int64_t distance
    cdef int code
    if s.window == 0:
        code = _lay_window(s, tick - MIN_WINDOW // 2, MIN_WINDOW)
    else:
        code = _fetch_far(s)        # a far level may be better than the new one
    if code < 0:
        return code
    if s.words == 0:
        s.front = NOWHERE
    if _inside(s, tick):
        stood[0] = _put_near(s, tick, size)
        return 0
    if size > 0 and (s.words == 0 or tick * s.sign > s.front):
        code = _relay(s, tick, s.window, 1)
        if code == 0:
            stood[0] = _put_near(s, tick, size)
        return code
    distance = s.base - tick if tick < s.base else tick - s.base - s.window
    if size > 0 and distance < s.window // 2 and s.window < MAX_WINDOW:
        code = _relay(s, s.base + (s.window >> 1), 2 * s.window, 1)
        if code < 0:
            return code
        stood[0] = _put_near(s, tick, size)
        return 0
    return _put_far(s, tick, size, stood)


cdef inline int side_clear(Side *s) noexcept nogil:
    s.far_count = 0
    if s.far.used:
        memset(s.far.data, 0, s.far.used)
    return _lay_window(s, s.base, s.window) if s.window else 0


# --- changes of depth ------------------------------------------------------------------------------------------------

cdef inline double _near_depth(const Side *s) noexcept nogil:
    """Base coin up to the limit of what is counted; NaN while there is none."""
    if s.near_price != s.near_price:
        return NAN
    if s.words == 0:
        return 0.0
    if s.sign > 0:
        return slots_sum(s, s.near - s.base, side_top(s) - s.base) + far_sum(s, s.near)
    return slots_sum(s, side_top(s) - s.base, -s.near - s.base) + far_sum(s, -s.near)


cdef inline bint _is_near(const Side *s, int64_t tick) noexcept nogil:
    return tick * s.sign >= s.near


cdef inline void _count_change(Side *s, double change) noexcept nogil:
    """Near depth is to grow or shrink by `change`. Both sums are exact, and no branch has to be guessed."""
    s.added += 0.5 * (fabs(change) + change)
    s.removed += 0.5 * (fabs(change) - change)


cdef inline void _count_replaced(Side *s) noexcept nogil:
    """A snapshot has ended: what it changed as a whole. Within it, nobody can tell what was cancelled and set again."""
    if s.replaced == s.replaced:
        _count_change(s, _near_depth(s) - s.replaced)


# --- messages --------------------------------------------------------------------------------------------------------

cdef inline double side_size(const Side *s, int64_t tick) noexcept nogil:
    """Size at a tick, near or far; 0 where there is none."""
    cdef const FarLevel *table = <const FarLevel *> s.far.data
    cdef int64_t at
    if _inside(s, tick):
        return (<double *> s.sizes.data)[tick - s.base]
    if s.far_count == 0:
        return 0.0
    at = _far_slot(table, s.far.used // <int64_t> sizeof(FarLevel), tick)
    return table[at].size


cdef inline bint _most_aggressive(const Book *b, int which, int64_t *tick) noexcept nogil:
    """Best level of a side among those that the open message set and that still stand; False: none."""
    cdef const Side *s = &b.sides[which]
    cdef const int64_t *touched = <const int64_t *> b.touched.data
    cdef int64_t i
    cdef bint any = False
    for i in range(b.touched.used // 8):
        if (touched[i] & 1) == which and side_size(s, touched[i] >> 1) > 0 and (
                not any or _better(s, touched[i] >> 1, tick[0])):
            tick[0] = touched[i] >> 1
            any = True
    return any


cdef inline bint _is_touched(const Book *b, int which, int64_t tick) noexcept nogil:
    cdef const int64_t *touched = <const int64_t *> b.touched.data
    cdef int64_t i
    for i in range(b.touched.used // 8):
        if touched[i] == 2 * tick + which:
            return True
    return False


cdef inline int64_t _remove_stale(Book *b, int which, int64_t limit) noexcept nogil:
    """Remove the levels of a side that reach `limit`, a price of the other, and that the open message did not set; how many."""
    cdef Side *s = &b.sides[which]
    cdef const FarLevel *table = <const FarLevel *> s.far.data
    cdef int64_t tick = side_top(s)
    cdef int64_t i = 0, removed = 0
    cdef bint more = s.words > 0
    while more and not _better(s, limit, tick):
        if not _is_touched(b, which, tick):
            if _is_near(s, tick):
                _count_change(s, -(<double *> s.sizes.data)[tick - s.base])
            _put_near(s, tick, 0.0)
            removed += 1
        tick -= s.sign
        more = side_next(s, &tick)
    while i < s.far.used // <int64_t> sizeof(FarLevel):
        if table[i].size > 0 and not _better(s, limit, table[i].tick) and not _is_touched(b, which, table[i].tick):
            if _is_near(s, table[i].tick):
                _count_change(s, -table[i].size)
            _far_erase(s, i)        # closes the gap: another level may stand here now
            removed += 1
        else:
            i += 1
    return removed


cdef inline bint _crosses(const Book *b) noexcept nogil:
    return side_top(&b.sides[BID]) >= side_top(&b.sides[ASK])


cdef inline void _repair(Book *b, Tally *tally) noexcept nogil:
    cdef int64_t bid = 0, ask = 0, removed = 0
    cdef bint has_bid = _most_aggressive(b, BID, &bid)
    cdef bint has_ask = _most_aggressive(b, ASK, &ask)
    if has_bid:
        removed += _remove_stale(b, ASK, bid)
    if has_ask:
        removed += _remove_stale(b, BID, ask)
    if removed:
        tally.books_repaired += 1
        tally.levels_removed += removed


cdef inline int _look_up(Book *b) noexcept nogil:
    """Find the best level of both sides, far from where it was if need be."""
    cdef int code = 0
    if unlikely(b.sides[BID].words == 0):
        code = _fetch_far(&b.sides[BID])
    if unlikely(b.sides[ASK].words == 0) and code == 0:
        code = _fetch_far(&b.sides[ASK])
    b.sides[BID].front = side_top(&b.sides[BID])
    b.sides[ASK].front = -side_top(&b.sides[ASK])
    return code


cdef inline bint book_will_move(const Book *b) noexcept nogil:
    """Will the judgement of the open message write to the levels? (Else it only closes the message.)"""
    cdef const Side *bids = &b.sides[BID]
    cdef const Side *asks = &b.sides[ASK]
    return b.open and (_crosses(b) or (bids.words == 0 and bids.far_count > 0) or (asks.words == 0 and asks.far_count > 0))


cdef inline bint _is_quiet(const Book *b) noexcept nogil:
    """Do even the bounds of both sides say that the open message leaves nothing to repair, to fetch, or to count?"""
    return b.sides[BID].front < -b.sides[ASK].front


cdef inline int book_judge(Book *b, Tally *tally) noexcept nogil:
    """The open message has ended: repair what it shows to be stale, and say whether the book is crossed."""
    cdef int code
    if not b.open:
        return 0
    b.open = False
    code = _look_up(b)
    if unlikely(not _is_quiet(b)) and code == 0:
        _repair(b, tally)
        code = _look_up(b)
    b.crossed = not _is_quiet(b)
    if b.crossed:
        tally.books_crossed += 1
    b.touched.used = 0
    if b.replacing:
        b.replacing = False
        _count_replaced(&b.sides[BID])
        _count_replaced(&b.sides[ASK])
    return code


cdef inline int _refine(Book *b, int64_t factor) noexcept nogil:
    """Ticks have become finer by `factor`: every tick that is kept becomes a count of the finer ones."""
    cdef Side *s
    cdef int64_t *touched = <int64_t *> b.touched.data
    cdef int64_t j
    cdef int i, code = 0
    for j in range(b.touched.used // 8):
        touched[j] = 2 * ((touched[j] >> 1) * factor) + (touched[j] & 1)
    for i in range(2):
        s = &b.sides[i]
        if s.near_price == s.near_price:
            s.near *= factor
        if s.window and code == 0:
            code = _relay(s, (side_top(s) if s.words else s.base + (s.window >> 1)) * factor, s.window, factor)
    return code


cdef inline bint book_countable(const Book *b, double price) noexcept nogil:
    """Can a price be counted in whole ticks, even when these have become as fine as they can?"""
    return price * (b.ticks.finest if b.ticks.decimals >= 0 else b.ticks.per_unit) <= 4e18


cdef inline int book_refusal(const Book *b, int side, double price, double size) noexcept nogil:
    """Why a row cannot be a row of a book; -1: it can."""
    if side != 1 and side != -1:
        return BAD_SIDE
    if not (is_price(price) and book_countable(b, price)):
        return BAD_PRICE
    return -1 if is_size(size) else BAD_SIZE


cdef inline int _begin_snapshot(Book *b, Tally *tally) noexcept nogil:
    """A whole book follows: nothing of what stood stands any more."""
    cdef int code
    if not b.replacing:
        b.replacing = True
        b.sides[BID].replaced = _near_depth(&b.sides[BID])
        b.sides[ASK].replaced = _near_depth(&b.sides[ASK])
    b.seeded = True
    tally.book_resets += 1
    b.touched.used = 0
    code = side_clear(&b.sides[BID])
    return code if code < 0 else side_clear(&b.sides[ASK])


cdef inline int _find_tick(Book *b, double price, int64_t *tick, Tally *tally) noexcept nogil:
    """Tick of a price off the grid as it stood: that becomes finer, or the price is rounded."""
    cdef int64_t finer = 1
    tick[0] = grid_steps(&b.ticks, price, &finer)
    tally.prices_off_tick += b.ticks.coarse
    return _refine(b, finer) if finer > 1 else 0


cdef inline int book_begin(Book *b, int64_t ts, bint snapshot, Tally *tally) noexcept nogil:
    """Rows of a message follow, all of a snapshot or none; 1 when they are skipped because no snapshot has come yet."""
    cdef int code = 0
    if snapshot and (not b.in_snapshot or not b.open):     # also where every message is a whole book
        code = _begin_snapshot(b, tally)
    b.in_snapshot = snapshot
    if not b.seeded and b.need_seed:
        return 1
    b.open = True
    b.message_ts = ts
    return code


cdef inline bint _counts_changes(const Book *b) noexcept nogil:
    """Are changes of near depth counted row by row?"""
    return b.sides[BID].near_price == b.sides[BID].near_price and not b.replacing


cdef inline void _count_near(Side *s, int64_t tick, double size) noexcept nogil:
    """Count what changes where a level inside the window is to be set or deleted."""
    _count_change(s, where(_is_near(s, tick), size - (<double *> s.sizes.data)[tick - s.base]))


cdef inline uint64_t _change_near(Side *s, int64_t tick, double size, bint counted) noexcept nogil:
    """Set or delete a level inside the window, and count what changes; was there one before?"""
    if counted:
        _count_near(s, tick, size)
    return _put_near(s, tick, size)


cdef inline bint _is_easy(const Side *s, int64_t tick) noexcept nogil:
    """Is a tick where nothing but its own level changes, as it nearly always is?"""
    return <uint64_t> (tick - s.base) < <uint64_t> s.reach


cdef inline int _change(Side *s, int64_t tick, double size, bint counted, uint64_t *stood) noexcept nogil:
    """Set or delete any level, and count what changes."""
    if _is_easy(s, tick):
        stood[0] = _change_near(s, tick, size, counted)
        return 0
    if counted:
        _count_change(s, size - side_size(s, tick) if _is_near(s, tick) else 0.0)
    return _place(s, tick, size, stood)


cdef inline int book_row(Book *b, int64_t ts, int side, double price, double size, bint snapshot,
                         Tally *tally) noexcept nogil:
    """Apply one checked row (side +1 or -1); 1 when it was skipped because no snapshot has come yet."""
    cdef int64_t tick
    cdef uint64_t stood = 0
    cdef int code = book_begin(b, ts, snapshot, tally)
    if code == 0 and not on_grid_now(&b.ticks, price, &tick):
        code = _find_tick(b, price, &tick, tally)
    if code == 0:
        code = block_reserve(&b.touched, 8)
    if code < 0:
        return ERR_MEMORY
    if code:
        return code
    if _change(&b.sides[side < 0], tick, size, _counts_changes(b), &stood) < 0:
        return ERR_MEMORY
    (<int64_t *> (b.touched.data + b.touched.used))[0] = 2 * tick + (side < 0)
    b.touched.used += 8 if size > 0 else 0
    tally.deletes_unknown += size == 0 and not stood
    return 0


cdef inline int book_break(Book *b, int64_t ts, Tally *tally) noexcept nogil:
    """Updates were lost: what stands may be wrong anywhere, so nothing stands until the next snapshot."""
    cdef int code = side_clear(&b.sides[BID])
    if code == 0:
        code = side_clear(&b.sides[ASK])
    b.touched.used = 0
    count_up_to(&b.sides[BID], NAN, 0)
    count_up_to(&b.sides[ASK], NAN, 0)
    b.seeded = b.in_snapshot = b.replacing = False
    b.open = True               # so that the empty book is published
    b.message_ts = ts
    tally.sequence_gaps += 1
    return code


# --- many rows -------------------------------------------------------------------------------------------------------

cdef inline int rows_find(Book *b, const Table *t, int64_t i, int64_t n, Rows *rows) noexcept nogil:
    """Find the ticks of up to MOST_ROWS of the rows i..n-1, if all of them are good, on the grid as it stands, and will not be
    skipped: then `rows` has them. Otherwise they are to be taken one by one."""
    cdef double finest = b.ticks.finest if b.ticks.decimals >= 0 else b.ticks.per_unit
    cdef double most = 3.999e18 / finest        # see book_countable
    cdef const uint8_t *snapshot = &t.snapshot[i] if t.snapshot != NULL else NULL
    cdef const uint8_t *gap = &t.gap[i] if t.gap != NULL else NULL
    if n > i + MOST_ROWS:
        n = i + MOST_ROWS
    rows.first = rows.next = rows.stop = i
    rows.single = n
    if not b.seeded and b.need_seed and (snapshot == NULL or not snapshot[0]):
        return 0
    if count_rows(&t.ts[i], &t.price[i], &t.size[i], &t.side[i], snapshot, gap, n - i, b.ticks.per_unit,
                  most if most < 1e15 else 1e15, rows.codes):
        rows.stop = n
    return block_reserve(&b.touched, 8 * MOST_ROWS)


cdef inline void rows_tops(Rows *rows) noexcept nogil:
    """What `rows_pass` asks of the rows that were found."""
    find_tops(rows.codes, rows.stop - rows.first, rows.tops[BID], rows.tops[ASK])


cdef inline void _fetch_rows(const Table *t, int64_t i) noexcept nogil:
    """Let eight rows come into the cache while others are taken."""
    fetch(&t.ts[i])
    fetch(&t.price[i])
    fetch(&t.size[i])


cdef inline uint64_t _take_easy(Side *s, uint64_t code, double size, bint counted) noexcept nogil:
    """Let a row that is easy change its level; did one stand before?"""
    if counted:
        _count_near(s, code >> 3, size)
    return _set_level(s, <int64_t> (code >> 3) - s.base, size, code & 1)


cdef inline int rows_put(Book *b, const Table *t, Rows *rows, int64_t end, Tally *tally) noexcept nogil:
    """Take the next row and those that follow it in its message, up to row `end`."""
    cdef const uint64_t *codes = &rows.codes[rows.next - rows.first]
    cdef const double *size = &t.size[rows.next]
    cdef int failed = book_begin(b, t.ts[rows.next], t.snapshot != NULL and t.snapshot[rows.next], tally)
    cdef bint counted = _counts_changes(b)
    cdef int64_t *touched = <int64_t *> b.touched.data
    cdef int64_t i = 0, n = end - rows.next
    cdef uint64_t code, stood = 0, known = 0, noted = b.touched.used // 8
    cdef Side *sides[2]
    cdef Side *s
    if failed < 0:
        return failed
    sides[BID] = &b.sides[BID]
    sides[ASK] = &b.sides[ASK]
    _fetch_rows(t, rows.next + 2 * MOST_ROWS)
    while True:
        code = codes[i]
        s = sides[code >> 2 & 1]
        if unlikely(not _is_easy(s, code >> 3)):
            failed = _change(s, code >> 3, size[i], counted, &stood)
        else:
            stood = _take_easy(s, code, size[i], counted)
            _raise_front(s, code >> 3, code & 1)
        touched[noted] = code >> 2
        noted += code & 1
        known += (code | stood) & 1
        i += 1
        if i == n or codes[i] & 2 or unlikely(failed < 0):
            break
    rows.next += i
    b.touched.used = 8 * noted
    tally.used[BOOK] += i
    tally.deletes_unknown += i - <int64_t> known
    return failed


# Most messages leave the best levels apart, whatever the order of their rows: where all levels that a group of rows sets
# leave them apart, nothing is to be judged inside it, and its rows only change their own levels.

cdef inline int64_t rows_group_end(const Rows *rows) noexcept nogil:
    """The row behind the group of the next one."""
    cdef int64_t end = rows.next + GROUP - (rows.next - rows.first) % GROUP
    return end if end < rows.stop else rows.stop


cdef inline bint _raise_fronts(Book *b, const Rows *rows) noexcept nogil:
    """Let the bounds of both sides hold for the group that comes next as well; False: that needs a look at each message."""
    cdef int64_t group = (rows.next - rows.first) // GROUP
    cdef int64_t bid, ask
    if rows.next + GROUP > rows.stop:
        return False
    bid = max_of(b.sides[BID].front, rows.tops[BID][group])
    ask = max_of(b.sides[ASK].front, rows.tops[ASK][group])
    if unlikely(bid >= -ask or not _is_easy(&b.sides[BID], bid) or not _is_easy(&b.sides[ASK], -ask)):
        return False
    b.sides[BID].front = bid
    b.sides[ASK].front = ask
    return True


cdef inline void _note_open(Book *b, const Rows *rows, int64_t begin) noexcept nogil:
    """Rows from `begin` to the next have been taken: note what those of the last message set."""
    cdef int64_t *touched = <int64_t *> b.touched.data
    cdef int64_t first = begin - rows.first, stop = rows.next - rows.first
    cdef int64_t i = stop - 1, noted
    while i > first and not rows.codes[i] & 2:
        i -= 1
    noted = 0 if rows.codes[i] & 2 else b.touched.used // 8
    for i in range(i, stop):
        touched[noted] = rows.codes[i] >> 2
        noted += rows.codes[i] & 1
    b.touched.used = 8 * noted


cdef inline int64_t _put_group(Side **sides, const uint64_t *codes, const double *size, bint counted,
                               uint64_t *known) noexcept nogil:
    """Take the rows of a group as long as they are easy; how many. `known` counts all but deletes of what was not there."""
    cdef Side *s
    cdef int64_t i
    for i in range(GROUP):
        s = sides[codes[i] >> 2 & 1]
        if unlikely(not _is_easy(s, codes[i] >> 3)):
            return i
        known[0] += (codes[i] | _take_easy(s, codes[i], size[i], counted)) & 1
    return GROUP


cdef inline int64_t rows_pass(Book *b, const Table *t, Rows *rows, Tally *tally) noexcept nogil:
    """From the beginning of a group on take groups that leave nothing to judge, as long as such follow; how many rows."""
    cdef int64_t begin = rows.next, taken = GROUP
    cdef uint64_t known = 0
    cdef bint counted = _counts_changes(b)
    cdef Side *sides[2]
    if (begin - rows.first) % GROUP or b.replacing or (t.snapshot != NULL and t.snapshot[begin]):
        return 0
    sides[BID] = &b.sides[BID]
    sides[ASK] = &b.sides[ASK]
    while taken == GROUP and _raise_fronts(b, rows):
        _fetch_rows(t, rows.next + 2 * MOST_ROWS)
        _fetch_rows(t, rows.next + 2 * MOST_ROWS + GROUP // 2)
        taken = _put_group(sides, &rows.codes[rows.next - rows.first], &t.size[rows.next], counted, &known)
        rows.next += taken
    taken = rows.next - begin
    if taken == 0:
        return 0
    tally.used[BOOK] += taken
    tally.deletes_unknown += taken - <int64_t> known
    if t.ts[begin] != b.message_ts or not b.open:
        b.touched.used = 0
    _note_open(b, rows, begin)
    b.open = True
    b.in_snapshot = False
    b.crossed = b.crossed and t.ts[rows.next - 1] == b.message_ts
    b.message_ts = t.ts[rows.next - 1]
    return taken


# --- reading ---------------------------------------------------------------------------------------------------------

cdef inline double book_price(const Book *b, int64_t tick) noexcept nogil:
    return <double> tick / b.ticks.per_unit
