# The price-level book of one instrument: absolute sizes by side and price, best levels, depth.
#
# Each side keeps the levels near its best in a window of ticks (an array, with a bit per occupied tick so that the next
# best level is found by counting zeros); levels far from it live in a hash table and come in when the window moves.
# The best level of a side is always inside its window.
# Rows of one time are one message: whether the book is crossed is judged when the message has ended. Then, if levels
# that this message set cross older ones of the other side, the older ones are stale (a delete was missed) and are removed;
# if two sides of the same message cross each other, nothing tells which is right: the book stands as crossed, without a mid.

from libc.math cimport NAN, fabs
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from toxmid.steps.codes cimport BAD_PRICE, BAD_SIDE, BAD_SIZE, ERR_MEMORY, Tally, is_price, is_size
from toxmid.steps.grid cimport Grid, grid_init, grid_steps, on_grid_now
from toxmid.steps.memory cimport Block, block_reserve

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
    """
    int low_bit "toxmid_low_bit"(uint64_t x) noexcept nogil
    int high_bit "toxmid_high_bit"(uint64_t x) noexcept nogil

cdef enum:
    BID = 0
    ASK = 1
    MIN_WINDOW = 16384          # ticks; a power of two and a multiple of 4096
    MAX_WINDOW = 1048576
    MIN_TABLE = 256             # slots of the hash table of far levels; a power of two

cdef struct FarLevel:
    int64_t tick
    double size                 # 0: a free slot

cdef struct Side:
    int sign                    # +1 bids, -1 asks: ticks times sign rise towards the market
    int64_t base                # tick of the first slot of the window
    int64_t window              # slots; 0: no level yet
    int64_t best                # tick of the best level; behind every tick while count is 0
    int64_t count               # occupied ticks inside the window
    int64_t far_count
    Block sizes                 # double[window]
    Block bits                  # uint64[window / 64]: occupied ticks
    Block groups                # uint64[window / 4096]: occupied words of `bits`
    Block far                   # FarLevel[power of two]: open addressing, at most half full
    Block touched               # int64 ticks that the open message set
    double near_price           # limit up to which changes of depth are counted; NaN: they are not
    int64_t near_tick           # the same, the last tick; beyond every level while there is no limit
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


cdef inline int64_t _nowhere(const Side *s) noexcept nogil:
    """The best tick of a side without levels: any other is better."""
    return -s.sign * (<int64_t> 1 << 62)


cdef inline void count_up_to(Side *s, double price, int64_t tick) noexcept nogil:
    """From now on changes of depth are counted up to this limit; NaN: they are not."""
    s.near_price = price
    s.near_tick = tick if price == price else s.sign * (<int64_t> 1 << 62)


cdef inline void book_init(Book *b, double tick, bint need_seed) noexcept nogil:
    b.need_seed = need_seed
    grid_init(&b.ticks, tick, 1e8)
    b.sides[BID].sign = 1
    b.sides[ASK].sign = -1
    b.sides[BID].best = _nowhere(&b.sides[BID])
    b.sides[ASK].best = _nowhere(&b.sides[ASK])
    count_up_to(&b.sides[BID], NAN, 0)
    count_up_to(&b.sides[ASK], NAN, 0)


# --- the window of one side ------------------------------------------------------------------------------------------

# Rows set and delete, of both sides, at random: a branch on what a row is would be guessed wrongly half of the time, and cost
# more than everything that it decides. So sides are told apart by arithmetic with their sign, here and wherever a row passes.

cdef inline bint _inside(const Side *s, int64_t tick) noexcept nogil:
    return <uint64_t> (tick - s.base) < <uint64_t> s.window


cdef inline bint _better(const Side *s, int64_t tick, int64_t than) noexcept nogil:
    return (tick - than) * s.sign > 0


cdef inline void _mark(Side *s, int64_t slot, uint64_t stands) noexcept nogil:
    """Note whether a level stands (1) or not (0) in a slot."""
    cdef uint64_t *word = &(<uint64_t *> s.bits.data)[slot >> 6]
    cdef uint64_t *group = &(<uint64_t *> s.groups.data)[slot >> 12]
    word[0] = (word[0] & ~(<uint64_t> 1 << (slot & 63))) | stands << (slot & 63)
    group[0] = (group[0] & ~(<uint64_t> 1 << ((slot >> 6) & 63))) | <uint64_t> (word[0] != 0) << ((slot >> 6) & 63)


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


cdef inline bint side_next(const Side *s, int64_t *tick) noexcept nogil:
    """Move `tick` to the first level at or behind it (away from the market), inside the window; False: there is none."""
    cdef int64_t slot = _slot_below(s, tick[0] - s.base) if s.sign > 0 else _slot_above(s, tick[0] - s.base)
    tick[0] = s.base + slot
    return slot >= 0


cdef inline bint _put_near(Side *s, int64_t tick, double size) noexcept nogil:
    """Set (size > 0) or delete (size == 0) a level inside the window; was there one before?"""
    cdef double *cell = &(<double *> s.sizes.data)[tick - s.base]
    cdef bint stood = cell[0] > 0, stands = size > 0
    cell[0] = size
    _mark(s, tick - s.base, stands)
    s.count += <int64_t> stands - <int64_t> stood
    if stands & _better(s, tick, s.best):
        s.best = tick
    elif tick == s.best and not stands and not (s.count and side_next(s, &s.best)):
        s.best = _nowhere(s)
    return stood


cdef inline double slots_sum(const Side *s, int64_t first, int64_t last) noexcept nogil:
    """Base coin in slots first..last of the window. Near the market nearly every slot is occupied, so they are added up where
    they stand, empty ones with them; only words without a level are passed over."""
    cdef const double *sizes = <const double *> s.sizes.data
    cdef const uint64_t *bits = <const uint64_t *> s.bits.data
    cdef double a = 0, b = 0, c = 0, d = 0
    cdef int64_t slot, stop
    slot = first if first > 0 else 0
    if last >= s.window:
        last = s.window - 1
    while slot <= last:
        stop = (slot | 63) + 1
        if bits[slot >> 6] == 0:
            slot = stop
            continue
        if stop > last + 1:
            stop = last + 1
        while slot + 4 <= stop:
            a += sizes[slot]
            b += sizes[slot + 1]
            c += sizes[slot + 2]
            d += sizes[slot + 3]
            slot += 4
        while slot < stop:
            a += sizes[slot]
            slot += 1
    return (a + b) + (c + d)


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


cdef inline int _put_far(Side *s, int64_t tick, double size, bint *stood) noexcept nogil:
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
    s.count = 0
    s.best = _nowhere(s)
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
    cdef FarLevel *levels = <FarLevel *> malloc((s.count + s.far_count + 1) * sizeof(FarLevel))
    cdef int64_t i, n
    cdef bint stood = False
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
    if s.count or s.far_count == 0:
        return 0
    for i in range(s.far.used // <int64_t> sizeof(FarLevel)):
        if table[i].size > 0 and (not any or _better(s, table[i].tick, best)):
            best = table[i].tick
            any = True
    return _relay(s, best, s.window, 1)


cdef inline int _place(Side *s, int64_t tick, double size, bint *stood) noexcept nogil:
    """Set or delete a level wherever it belongs; the window follows the best."""
    cdef int64_t distance
    cdef int code
    if s.window == 0:
        code = _lay_window(s, tick - MIN_WINDOW // 2, MIN_WINDOW)
    else:
        code = _fetch_far(s)        # a far level may be better than the new one
    if code < 0:
        return code
    if _inside(s, tick):
        stood[0] = _put_near(s, tick, size)
        return 0
    if size > 0 and (s.count == 0 or _better(s, tick, s.best)):
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
    s.touched.used = 0
    s.far_count = 0
    if s.far.used:
        memset(s.far.data, 0, s.far.used)
    return _lay_window(s, s.base, s.window) if s.window else 0


# --- changes of depth ------------------------------------------------------------------------------------------------

cdef inline double _near_depth(const Side *s) noexcept nogil:
    """Base coin up to the limit of what is counted; NaN while there is none."""
    if s.near_price != s.near_price:
        return NAN
    if s.count == 0:
        return 0.0
    if s.sign > 0:
        return slots_sum(s, s.near_tick - s.base, s.best - s.base) + far_sum(s, s.near_tick)
    return slots_sum(s, s.best - s.base, s.near_tick - s.base) + far_sum(s, s.near_tick)


cdef inline bint _is_near(const Side *s, int64_t tick) noexcept nogil:
    return (tick - s.near_tick) * s.sign >= 0


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


cdef inline bint _most_aggressive(const Side *s, int64_t *tick) noexcept nogil:
    """Best level among those that the open message set and that still stand; False: none."""
    cdef const int64_t *ticks = <const int64_t *> s.touched.data
    cdef int64_t i
    cdef bint any = False
    for i in range(s.touched.used // 8):
        if side_size(s, ticks[i]) > 0 and (not any or _better(s, ticks[i], tick[0])):
            tick[0] = ticks[i]
            any = True
    return any


cdef inline bint _is_touched(const Side *s, int64_t tick) noexcept nogil:
    cdef const int64_t *ticks = <const int64_t *> s.touched.data
    cdef int64_t i
    for i in range(s.touched.used // 8):
        if ticks[i] == tick:
            return True
    return False


cdef inline int64_t _remove_stale(Side *s, int64_t limit) noexcept nogil:
    """Remove the levels that reach `limit`, a price of the other side, and that the open message did not set; how many."""
    cdef const FarLevel *table = <const FarLevel *> s.far.data
    cdef int64_t tick = s.best
    cdef int64_t i = 0, removed = 0
    cdef bint more = s.count > 0
    while more and not _better(s, limit, tick):
        if not _is_touched(s, tick):
            if _is_near(s, tick):
                _count_change(s, -(<double *> s.sizes.data)[tick - s.base])
            _put_near(s, tick, 0.0)
            removed += 1
        tick -= s.sign
        more = side_next(s, &tick)
    while i < s.far.used // <int64_t> sizeof(FarLevel):
        if table[i].size > 0 and not _better(s, limit, table[i].tick) and not _is_touched(s, table[i].tick):
            if _is_near(s, table[i].tick):
                _count_change(s, -table[i].size)
            _far_erase(s, i)        # closes the gap: another level may stand here now
            removed += 1
        else:
            i += 1
    return removed


cdef inline bint _crosses(const Book *b) noexcept nogil:
    return b.sides[BID].best >= b.sides[ASK].best


cdef inline void _repair(Book *b, Tally *tally) noexcept nogil:
    cdef int64_t bid = 0, ask = 0, removed = 0
    cdef bint has_bid = _most_aggressive(&b.sides[BID], &bid)
    cdef bint has_ask = _most_aggressive(&b.sides[ASK], &ask)
    if has_bid:
        removed += _remove_stale(&b.sides[ASK], bid)
    if has_ask:
        removed += _remove_stale(&b.sides[BID], ask)
    if removed:
        tally.books_repaired += 1
        tally.levels_removed += removed


cdef inline int _fetch_both(Book *b) noexcept nogil:
    cdef int code = _fetch_far(&b.sides[BID])
    return code if code < 0 else _fetch_far(&b.sides[ASK])


cdef inline bint book_will_move(const Book *b) noexcept nogil:
    """Will the judgement of the open message write to the levels? (Else it only closes the message.)"""
    cdef const Side *bids = &b.sides[BID]
    cdef const Side *asks = &b.sides[ASK]
    return b.open and (_crosses(b) or (bids.count == 0 and bids.far_count > 0) or (asks.count == 0 and asks.far_count > 0))


cdef inline int book_judge(Book *b, Tally *tally) noexcept nogil:
    """The open message has ended: repair what it shows to be stale, and say whether the book is crossed."""
    cdef int code
    if not b.open:
        return 0
    b.open = False
    code = _fetch_both(b)
    if code == 0 and _crosses(b):
        _repair(b, tally)
        code = _fetch_both(b)
    b.crossed = _crosses(b)
    if b.crossed:
        tally.books_crossed += 1
    b.sides[BID].touched.used = 0
    b.sides[ASK].touched.used = 0
    if b.replacing:
        b.replacing = False
        _count_replaced(&b.sides[BID])
        _count_replaced(&b.sides[ASK])
    return code


cdef inline int _refine(Book *b, int64_t factor) noexcept nogil:
    """Ticks have become finer by `factor`: every tick that is kept becomes a count of the finer ones."""
    cdef Side *s
    cdef int64_t j
    cdef int i, code = 0
    for i in range(2):
        s = &b.sides[i]
        if s.near_price == s.near_price:
            s.near_tick *= factor
        for j in range(s.touched.used // 8):
            (<int64_t *> s.touched.data)[j] *= factor
        if s.window and code == 0:
            code = _relay(s, (s.best if s.count else s.base + (s.window >> 1)) * factor, s.window, factor)
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
    code = side_clear(&b.sides[BID])
    return code if code < 0 else side_clear(&b.sides[ASK])


cdef inline int _find_tick(Book *b, double price, int64_t *tick, Tally *tally) noexcept nogil:
    """Tick of a price off the grid as it stood: that becomes finer, or the price is rounded."""
    cdef int64_t finer = 1
    tick[0] = grid_steps(&b.ticks, price, &finer)
    tally.prices_off_tick += b.ticks.coarse
    return _refine(b, finer) if finer > 1 else 0


cdef inline int book_row(Book *b, int64_t ts, int side, double price, double size, bint snapshot,
                         Tally *tally) noexcept nogil:
    """Apply one checked row (side +1 or -1); 1 when it was skipped because no snapshot has come yet."""
    cdef Side *s = &b.sides[side < 0]
    cdef int64_t tick
    cdef bint stood = False, deletes = size == 0
    cdef int code = 0
    if snapshot and (not b.in_snapshot or not b.open):     # also where every message is a whole book
        code = _begin_snapshot(b, tally)
    b.in_snapshot = snapshot
    if not b.seeded and b.need_seed:
        return 1
    b.open = True
    b.message_ts = ts
    if not on_grid_now(&b.ticks, price, &tick) and code == 0:
        code = _find_tick(b, price, &tick, tally)
    if s.near_price == s.near_price and not b.replacing:
        _count_change(s, size - side_size(s, tick) if _is_near(s, tick) else 0.0)
    if code == 0 and s.count and _inside(s, tick):
        stood = _put_near(s, tick, size)
    elif code == 0:
        code = _place(s, tick, size, &stood)
    if code < 0 or block_reserve(&s.touched, 8) < 0:
        return ERR_MEMORY
    (<int64_t *> (s.touched.data + s.touched.used))[0] = tick
    s.touched.used += 0 if deletes else 8
    tally.deletes_unknown += deletes & (not stood)
    return 0


cdef inline int book_break(Book *b, int64_t ts, Tally *tally) noexcept nogil:
    """Updates were lost: what stands may be wrong anywhere, so nothing stands until the next snapshot."""
    cdef int code = side_clear(&b.sides[BID])
    if code == 0:
        code = side_clear(&b.sides[ASK])
    count_up_to(&b.sides[BID], NAN, 0)
    count_up_to(&b.sides[ASK], NAN, 0)
    b.seeded = b.in_snapshot = b.replacing = False
    b.open = True               # so that the empty book is published
    b.message_ts = ts
    tally.sequence_gaps += 1
    return code


# --- reading ---------------------------------------------------------------------------------------------------------

cdef inline double book_price(const Book *b, int64_t tick) noexcept nogil:
    return <double> tick / b.ticks.per_unit
