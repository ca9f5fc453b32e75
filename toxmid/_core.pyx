"""The compiled core: one engine over many state machines, with two faces and one body.

The state is one C struct, `Machine`, and the blocks of memory that belong to it (`steps/machine.pxd`). What one event does
to it is one `noexcept nogil` function per kind of event. The methods `trade`, `quote`, `book`, `liquidation`, `mark_price` and
`reference_trade` call that function once; `run` calls the same functions in a loop over columns, merged by time, without the
interpreter lock. Neither face touches a field of the state. So streaming, arrays, chunks and a restored snapshot cannot
differ.

Inside, time is int64 nanoseconds, sizes are whole lots, book prices whole ticks. The core does no input or output, sorts
nothing and knows no files: it takes events in order and answers with codes, which the faces turn into errors.
"""

import zlib

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.math cimport NAN, exp
from libc.stdint cimport INT64_MAX, int8_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from toxmid.errors import DataError, FileError
from toxmid.steps.book cimport (ASK, BID, Book, Rows, Side, Table, side_top, book_break, book_init, book_judge,
                                book_price, book_refusal, book_row, book_will_move, rows_find, rows_group_end, rows_pass,
                                rows_put, rows_tops, side_next, side_size)
from toxmid.steps.branching cimport branching_init
from toxmid.steps.bulk cimport Bulk, bulk_add, bulk_advance, bulk_init, student
from toxmid.steps.calm cimport calm_init
from toxmid.steps.classify cimport RULE_EMO, RULE_LEE_READY, RULE_QUOTE, RULE_SIDE, RULE_TICK, signing_init
from toxmid.steps.codes cimport (BEFORE_SNAPSHOT, BOOK, ERR_BACKWARDS, ERR_MEMORY, ERR_RUNAWAY, ERR_SIDE, ERR_SILENCE,
                                 ERR_TIME_RANGE, ERR_VENUE, KINDS, LIQUIDATION, MARK, OPEN_INTEREST, QUOTE, REFERENCE,
                                 SECOND, TRADE, Tally, in_our_years, is_price, is_size)
from toxmid.steps.consensus cimport ALL_VENUES, INDEX_PRICE, MARK_PRICE, OTHER_VENUES, Consensus
from toxmid.steps.depth cimport depth_init
from toxmid.steps.episodes cimport EPISODE_KINDS, EpisodeRow
from toxmid.steps.grid cimport Grid, grid_init, grid_steps
from toxmid.steps.implied cimport ImpliedParams, implied_init
from toxmid.steps.interest cimport interest_init
from toxmid.steps.kyle cimport kyle_init
from toxmid.steps.machine cimport (BarRow, Machine, Past, _close_step, _settle, machine_book, machine_finish,
                                   machine_book_rows, machine_counted_trade, machine_liquidation, machine_mark,
                                   machine_open_interest, machine_quote, machine_reference, machine_trade)
from toxmid.steps.lots cimport Lots, lots_countable, lots_of, lots_per_coin, lots_took
from toxmid.steps.memory cimport Block, block_reserve
from toxmid.steps.runs cimport RUN, Run, lots_of_run, run_spell, run_take_one
from toxmid.steps.starts cimport starts_clock, starts_count, starts_refine, starts_set_lots, starts_take
from toxmid.steps.touch cimport touch_init
from toxmid.steps.trailing cimport Trailing
from toxmid.steps.venue cimport Venue, venue_init
from toxmid.steps.volume_clock cimport (BucketRow, Slot, VolumeClock, clock_fill, clock_in_day, clock_pour_run,
                                        clock_prepare, clock_refine, clock_takes_runs)

KIND_NAMES = ("trades", "liquidations", "book", "quotes", "mark", "reference", "open_interest")
REASON_NAMES = ("bad_price", "bad_size", "zero_size", "bad_side", "before_snapshot")
REGIME_NAMES = ("calm", "stress-labelled", "stress-inferred", "one-sided book", "halted")
EPISODE_NAMES = ("widening", "sweep", "vacuum", "liquidation_cascade")

cdef dict RULE_CODES = {
    "side": RULE_SIDE, "tick": RULE_TICK, "quote": RULE_QUOTE, "lee_ready": RULE_LEE_READY, "emo": RULE_EMO,
    # Bulk classification signs volume, not trades: where single trades must be signed, the venue's flag does it.
    "bvc_normal": RULE_SIDE, "bvc_t": RULE_SIDE,
}

cdef enum:
    MAX_BLOCKS = 160
    LAYOUT = 9                  # raised whenever the meaning of the state changes: older snapshots are refused

OTHER_VENUE_LIMIT = OTHER_VENUES

cdef bytes MAGIC = b"toxmid\x00\x01"


# --- errors ----------------------------------------------------------------------------------------------------------

cdef object _error(int code, int kind, object row, int64_t ts, int64_t now, object side=None):
    """The exception of a code that a step returned."""
    cdef str table = KIND_NAMES[kind]
    if code == ERR_MEMORY:
        return MemoryError("toxmid: out of memory")
    if code == ERR_BACKWARDS:
        return DataError(f"time goes back in {table}", row=row, column="ts", found=ts,
                         expected=f"{now} or later (sort by ts first)")
    if code == ERR_TIME_RANGE:
        return DataError(f"time of {table} outside the years 2009 to 2100: is it in nanoseconds?", row=row, column="ts",
                         found=ts)
    if code == ERR_SILENCE:
        return DataError(f"a silence of more than four million bars before this row of {table}: is the time right? "
                         "If it is, replay what lies before and after it apart, or with longer bars", row=row,
                         column="ts", found=ts, expected=f"soon after {now}")
    if code == ERR_RUNAWAY:
        return DataError(f"one row of {table} would close more than a million buckets: the bucket volume is too small",
                         row=row, column="size")
    if code == ERR_SIDE:
        return DataError("not a side", row=row, column="side", found=side, expected="+1, -1 or 0")
    if code == ERR_VENUE:
        return DataError("no such venue", row=row, column="venue", expected=f"0 to {OTHER_VENUES - 1}")
    return AssertionError(f"unknown code {code} of the core")


# --- blocks and rows -------------------------------------------------------------------------------------------------

cdef list _field_names(dict example):
    return [(name, "i8" if isinstance(value, int) else "f8") for name, value in example.items()]


cdef list _bar_fields():
    cdef BarRow row
    memset(&row, 0, sizeof(row))
    return _field_names(row)


cdef list _bucket_fields():
    cdef BucketRow row
    memset(&row, 0, sizeof(row))
    return _field_names(row)


cdef list _episode_fields():
    cdef EpisodeRow row
    memset(&row, 0, sizeof(row))
    return _field_names(row)


# Names and types of the rows, read off the structs themselves: there is no second list that could differ.
BAR_FIELDS = _bar_fields()
BUCKET_FIELDS = _bucket_fields()
EPISODE_FIELDS = _episode_fields()


cdef bytes _drain(Block *b):
    """The rows that have gathered, and none left."""
    cdef bytes rows = b.data[:b.used] if b.used else b""
    b.used = 0
    return rows


cdef int _turn(const int64_t[:, ::1] rows, int64_t[:, ::1] columns) except -1:
    """Memory is slow where it is not read and written in order. So rows are copied in order into a tile that a near cache holds, and
    from it columns are written a stretch at a time, four of them abreast."""
    cdef Py_ssize_t n = rows.shape[0], width = rows.shape[1], begin, count, first, last, start, stop, row, field
    cdef int64_t *tile
    if columns.shape[0] > width or columns.shape[1] != n:
        raise ValueError("columns for other rows")
    tile = <int64_t *> malloc(256 * width * 8)
    if tile == NULL:
        raise MemoryError("toxmid: out of memory")
    with nogil:
        for begin in range(0, n, 256):
            count = min(n - begin, 256)
            memcpy(tile, &rows[begin, 0], count * width * 8)
            for first in range(0, columns.shape[0], 4):
                last = min(first + 4, columns.shape[0])
                for start in range(0, count, 8):            # words of a line of the cache
                    stop = min(start + 8, count)
                    for field in range(first, last):
                        for row in range(start, stop):
                            columns[field, begin + row] = tile[row * width + field]
    free(tile)
    return 0


def turn(const int64_t[:, ::1] rows, int64_t[:, ::1] columns):
    """turn(rows, columns)

    Write a table of rows, fields of eight bytes, into `columns`, an array of shape (fields, rows): as many of the fields, from
    the first, as it has room for.
    """
    _turn(rows, columns)


cdef int _drain_into(Block *b, Py_ssize_t width, int64_t[:, ::1] columns) except -1:
    """The rows that have gathered as columns, and none left."""
    cdef Py_ssize_t n = b.used // (8 * width)
    if n:
        _turn(<int64_t[:n, :width]> <int64_t *> b.data, columns)
    b.used = 0
    return 0


cdef int _clock_blocks(VolumeClock *c, Block **out) noexcept:
    out[0] = &c.past.arrivals
    out[1] = &c.past.leaves
    out[2] = &c.past.index
    out[3] = &c.slots
    out[4] = &c.rows
    return 5


cdef void _free_later(Block *later) noexcept:
    """Give up the clocks that begin later, and what belongs to each."""
    cdef Block *blocks[5]
    cdef int64_t which
    cdef int i, n
    for which in range(starts_count(later)):
        n = _clock_blocks(starts_clock(later, which), blocks)
        for i in range(n):
            free(blocks[i].data)
    free(later.data)
    memset(later, 0, sizeof(Block))


cdef int _book_blocks(Book *b, Block **out) noexcept nogil:
    cdef int side, n = 0
    for side in range(2):
        out[n] = &b.sides[side].sizes
        out[n + 1] = &b.sides[side].bits
        out[n + 2] = &b.sides[side].groups
        out[n + 3] = &b.sides[side].far
        n += 4
    out[n] = &b.touched
    return n + 1


cdef int _trailing_blocks(Trailing *t, Block **out) noexcept:
    out[0] = &t.samples
    out[1] = &t.sorted
    return 2


cdef int _venue_blocks(Venue *v, Block **out) noexcept:
    cdef int n = _trailing_blocks(&v.bases, out)
    n += _trailing_blocks(&v.deviating, out + n)
    n += _trailing_blocks(&v.spreads, out + n)
    n += _trailing_blocks(&v.calm.moves, out + n)
    n += _trailing_blocks(&v.calm.volumes, out + n)
    n += _trailing_blocks(&v.calm.spreads, out + n)
    return n


cdef int _machine_blocks(Machine *m, Block **out) noexcept:
    """Every block of an engine, always in this order: what snapshot writes and restore reads."""
    cdef int i, n = _clock_blocks(&m.clock, out)
    n += _book_blocks(&m.book, out + n)
    n += _trailing_blocks(&m.calm.moves, out + n)
    n += _trailing_blocks(&m.calm.volumes, out + n)
    n += _trailing_blocks(&m.calm.spreads, out + n)
    n += _trailing_blocks(&m.calm.young, out + n)
    for i in range(ALL_VENUES):
        n += _venue_blocks(&m.others.venues[i], out + n)
    n += _trailing_blocks(&m.branching.values, out + n)
    out[n] = &m.calm.minutes
    out[n + 1] = &m.calm.scratch
    out[n + 2] = &m.flow.prints
    out[n + 3] = &m.past
    out[n + 4] = &m.bars
    out[n + 5] = &m.episode_rows
    return n + 6


cdef void _without_addresses(Block **blocks, int n) noexcept:
    """Of a copied state: addresses are not state."""
    cdef int i
    for i in range(n):
        blocks[i].data = NULL
        blocks[i].capacity = 0


cdef void _append_blocks(list parts, Block **blocks, int n) except *:
    """The bytes of blocks, each after their number."""
    cdef int64_t used
    cdef int i
    for i in range(n):
        used = blocks[i].used
        parts.append((<char *> &used)[:sizeof(int64_t)])
        if used:
            parts.append(blocks[i].data[:used])


cdef const char *_read_blocks(const char *at, Block **blocks, int n) except NULL:
    """Fill blocks with what `_append_blocks` wrote; where the next bytes begin."""
    cdef int64_t used
    cdef int i
    for i in range(n):
        memset(blocks[i], 0, sizeof(Block))
        memcpy(&used, at, sizeof(int64_t))
        at += sizeof(int64_t)
        if used:
            if block_reserve(blocks[i], used) < 0:
                raise MemoryError()
            memcpy(blocks[i].data, at, used)
            blocks[i].used = used
            at += used
    return at


cdef int _clone_book(Book *b) noexcept nogil:
    """Give a copied book blocks of its own; a negative code where there is no room, and then all of them are empty."""
    cdef Block *blocks[MAX_BLOCKS]
    cdef Block original
    cdef int i, code = 0, n = _book_blocks(b, blocks)
    for i in range(n):
        original = blocks[i][0]
        memset(blocks[i], 0, sizeof(Block))
        if code == 0 and block_reserve(blocks[i], original.used + 8) < 0:
            code = ERR_MEMORY
        if code == 0 and original.used:
            memcpy(blocks[i].data, original.data, original.used)
            blocks[i].used = original.used
    return code


cdef void _free_book(Book *b) noexcept nogil:
    cdef Block *blocks[MAX_BLOCKS]
    cdef int i, n = _book_blocks(b, blocks)
    for i in range(n):
        free(blocks[i].data)


cdef int _look_ahead(Machine *ahead) noexcept nogil:
    """Let a copy of a machine settle its moment and close its step, writing to no block of the original."""
    cdef bint cloned = book_will_move(&ahead.book)
    cdef int code = 0
    if cloned:
        code = _clone_book(&ahead.book)
    ahead.peeking = True
    if code == 0:
        code = _settle(ahead)
    if code == 0:
        code = _close_step(ahead)
    if cloned:
        _free_book(&ahead.book)
    return code


cdef int64_t _nanoseconds(object ts) except? -1:
    """A time as a whole number: a double has steps of 256 ns in these years, and would move events without a word."""
    if type(ts) is not int and isinstance(ts, float):
        raise TypeError("ts must be whole nanoseconds since 1970, not a float")
    return ts


cdef void _clock_init(VolumeClock *c, object params) except *:
    c.bucket_volume = params.bucket_volume or 0.0
    c.per_day = params.buckets_per_day
    c.window = params.window
    c.ready_after = 300 * <int64_t> SECOND
    c.units = 1
    c.lots_per_coin = 1.0
    c.open_price = c.vpin = c.vpin_rank = NAN
    c.ranked = True
    c.volume.keep = params.volume_days
    c.past.horizon = <int64_t> (params.rank_days * 86400 * 1e9)
    if block_reserve(&c.slots, c.window * sizeof(Slot)) < 0:
        raise MemoryError()
    c.slots.used = c.window * sizeof(Slot)
    memset(c.slots.data, 0, c.slots.used)


cdef void _later_init(Block *later, object params) except *:
    """The clocks that begin 1 / K, 2 / K ... of a bucket into the tape."""
    cdef VolumeClock *c
    cdef int64_t which
    for which in range(1, params.vpin_offsets):
        if block_reserve(later, sizeof(VolumeClock)) < 0:
            raise MemoryError()
        c = starts_clock(later, which - 1)
        memset(c, 0, sizeof(VolumeClock))
        later.used += sizeof(VolumeClock)
        _clock_init(c, params)
        c.skip = <double> which / <double> params.vpin_offsets
        c.counts_only = c.silent = True
        c.ranked = False


cdef void _lots_init(Lots *l, object instrument, double bucket_volume) except *:
    """An inverse contract is worth quote currency; a linear one some base coin, of which its lot is the grid."""
    l.inverse = instrument.inverse
    l.contract_value = (instrument.contract_value or 0.0) if instrument.inverse else 0.0
    # A bucket must stay countable in the finest lots.
    grid_init(&l.grid, (instrument.lot or 0.0) if not instrument.inverse else 0.0, 1e17 / max(bucket_volume, 1.0))


cdef void _implied_params(ImpliedParams *p, object params) except *:
    p.kappa = params.kappa
    p.support = params.support
    p.lean = params.lean
    p.lean_limit = params.lean_limit
    p.both_pulled = params.both_pulled
    p.idle = params.idle
    p.excess_spreads = params.excess_spreads
    p.pulled_prior = params.pulled_prior
    p.pulled_weight = params.pulled_weight
    p.pulled_least = params.pulled_least
    p.pulled_limit = params.pulled_limit
    p.weight_asymmetry = params.weight_asymmetry
    p.weight_volume = params.weight_volume
    p.weight_credibility = params.weight_credibility
    p.weight_toxic = params.weight_toxic
    p.relax = params.duration_ns("relax") * 1e-9
    p.pulled_memory = params.duration_ns("pulled_memory") * 1e-9
    p.drift_memory = params.duration_ns("drift_memory") * 1e-9
    p.spread_memory = params.duration_ns("spread_memory") * 1e-9
    p.volume_memory = params.duration_ns("volume_memory") * 1e-9
    p.imbalance_memory = params.duration_ns("imbalance_memory") * 1e-9
    p.interval_spread = params.interval_spread
    p.interval_gap = params.interval_gap
    p.interval_wide = params.interval_wide
    p.interval_move = params.interval_move
    p.interval_age = params.interval_age
    p.interval_memory = params.duration_ns("interval_memory") * 1e-9


cdef void _others_init(Consensus *c, object params, const ImpliedParams *p) except *:
    cdef int i
    for i in range(ALL_VENUES):
        venue_init(&c.venues[i], params.reference_width, i < OTHER_VENUES, p, params.duration_ns("history"),
                   params.duration_ns("history_lag"))
    c.centre = c.half = NAN
    c.mark_prior = params.mark_prior
    c.mark_memory = params.duration_ns("history") * 1e-9
    c.mark_lag = params.duration_ns("mark_lag") * 1e-9


cdef void _need_student() except *:
    """Fetch the function that Student's shares are made with."""
    global student
    from scipy.special import cython_special

    cdef object function = cython_special.__pyx_capi__["__pyx_fuse_0stdtr"]
    student = <double (*)(double, double, int) noexcept nogil> PyCapsule_GetPointer(function, PyCapsule_GetName(function))


cdef void _bulk_init(Bulk *b, object params) except *:
    if params.classify == "bvc_t":
        _need_student()
    bulk_init(b, params.classify in ("bvc_normal", "bvc_t"), params.bvc_df if params.classify == "bvc_t" else 0.0,
              params.duration_ns("bvc_bar"))


cdef int _check_venues(object numbers) except -1:
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < OTHER_VENUES):
        raise DataError("no such venue", column="venue", expected=f"0 to {OTHER_VENUES - 1}")
    return 0


# --- columns ---------------------------------------------------------------------------------------------------------

cdef class Columns:
    """The columns of one table, held so that the loop over them needs no interpreter."""

    cdef const int64_t[::1] ts
    cdef const double[::1] a, b, c, d
    cdef const int8_t[::1] side
    cdef const int64_t[::1] lots
    cdef const uint8_t[::1] flag, gap
    cdef const int8_t[::1] venue
    cdef Py_ssize_t n, i
    cdef bint has_side, has_lots, has_flag, has_gap, has_venue, has_index

    def __cinit__(self, dict columns, tuple names, bint needs_side=False):
        self.ts = columns["ts"]
        self.n = self.ts.shape[0]
        self.i = 0
        self.a = columns[names[0]]
        self.b = columns[names[1]] if len(names) > 1 else self.a
        self.c = columns[names[2]] if len(names) > 2 else self.a
        self.d = columns[names[3]] if len(names) > 3 else self.a
        self.has_side = "side" in columns
        if needs_side and not self.has_side:
            raise DataError("column is missing", column="side", found=sorted(columns))
        if self.has_side:
            self.side = columns["side"]
        self.has_lots = "lots" in columns
        if self.has_lots:
            self.lots = columns["lots"]
        self.has_flag = "snapshot" in columns
        if self.has_flag:
            self.flag = columns["snapshot"]
        self.has_gap = "gap" in columns
        if self.has_gap:
            self.gap = columns["gap"]
        self.has_index = "index" in columns
        if self.has_index:
            self.b = columns["index"]
        self.has_venue = "venue" in columns
        if self.has_venue:
            self.venue = columns["venue"]
            _check_venues(columns["venue"])
        lengths = {self.ts.shape[0], self.a.shape[0], self.b.shape[0], self.c.shape[0], self.d.shape[0]}
        if self.has_side:
            lengths.add(self.side.shape[0])
        if self.has_lots:
            lengths.add(self.lots.shape[0])
        if self.has_flag:
            lengths.add(self.flag.shape[0])
        if self.has_gap:
            lengths.add(self.gap.shape[0])
        if self.has_venue:
            lengths.add(self.venue.shape[0])
        if len(lengths) != 1:
            raise DataError("columns of different lengths", found=sorted(lengths))


_TABLE_COLUMNS = (
    ("price", "size"), ("price", "size"), ("price", "size"), ("bid", "bid_size", "ask", "ask_size"), ("price",),
    ("price", "size"), ("open_interest",),
)


cdef inline int _take(Machine *m, int kind, Columns t) noexcept nogil:
    """Hand the next row of a table to the step of its kind."""
    cdef Py_ssize_t i = t.i
    if kind == BOOK:
        return machine_book(m, t.ts[i], t.side[i], t.a[i], t.b[i], t.flag[i] if t.has_flag else False,
                            t.gap[i] if t.has_gap else False)
    if kind == LIQUIDATION:
        return machine_liquidation(m, t.ts[i], t.side[i], t.a[i], t.b[i])
    if kind == MARK:
        return machine_mark(m, t.ts[i], t.a[i], t.b[i] if t.has_index else NAN)
    if kind == OPEN_INTEREST:
        return machine_open_interest(m, t.ts[i], t.a[i])
    return machine_reference(m, t.ts[i], t.a[i], t.b[i], t.side[i] if t.has_side else 0, t.venue[i] if t.has_venue else 0)


# --- trades and quotes -----------------------------------------------------------------------------------------------

cdef struct Tape:               # columns of trades or of quotes
    const int64_t *ts
    const double *a
    const double *b
    const double *c
    const double *d
    const int8_t *side          # NULL: no such column
    const int64_t *lots
    int64_t n, i                # rows, and how many were taken
    int64_t looked              # trades: rows before this one were looked at,
    int64_t first, counted      # and of them those from `first` to before `counted` stand as lots in
    Run run
    int64_t run_lots[RUN]


cdef void _tape_init(Tape *tape, Columns t) except *:
    memset(tape, 0, sizeof(Tape))
    if t is None or t.n == 0:
        return
    tape.n = t.n
    tape.ts, tape.a, tape.b, tape.c, tape.d = &t.ts[0], &t.a[0], &t.b[0], &t.c[0], &t.d[0]
    tape.side = &t.side[0] if t.has_side else NULL
    tape.lots = &t.lots[0] if t.has_lots else NULL


cdef inline int64_t _head(const Tape *t) noexcept nogil:
    """Time of the next row."""
    return t.ts[t.i] if t.i < t.n else INT64_MAX


cdef int _count_trades(const Machine *m, Tape *t) noexcept nogil:
    """Look at the next trades together: are they good, and how many lots are they? What is not plain goes one by one."""
    cdef int64_t i = t.i
    cdef int64_t n = t.n - i if t.n - i < RUN else RUN
    t.looked = i + n
    t.first = t.counted = i
    if (t.side != NULL and t.lots == NULL and m.started
            and lots_of_run(&m.lots, m.now, &t.ts[i], &t.a[i], &t.b[i], &t.side[i], t.n - i, &t.run)
            and in_our_years(t.ts[i + n - 1])):
        run_spell(&t.run, t.run_lots)
        t.counted = i + n
    return 0


cdef inline int _take_trade(Machine *m, Tape *t) noexcept nogil:
    cdef int64_t i = t.i
    if i == t.looked:
        _count_trades(m, t)
    t.i += 1
    if i < t.counted:
        return machine_counted_trade(m, t.ts[i], t.a[i], t.b[i], t.side[i], t.run_lots[i - t.first])
    return machine_trade(m, t.ts[i], t.a[i], t.b[i], t.side[i] if t.side != NULL else 0, t.lots[i] if t.lots != NULL else 0)


cdef inline int _take_quote(Machine *m, Tape *t) noexcept nogil:
    cdef int64_t i = t.i
    t.i += 1
    return machine_quote(m, t.ts[i], t.a[i], t.b[i], t.c[i], t.d[i])


cdef int _take_tapes(Machine *m, Tape *trades, Tape *quotes, int64_t *head, int *kind) noexcept nogil:
    """Take trades and quotes, merged, as long as they come before the next row of every other table."""
    cdef int64_t trade_ts = head[TRADE], quote_ts = head[QUOTE]
    cdef int64_t last_trade = INT64_MAX - 1, last_quote = INT64_MAX - 1
    cdef int k, code = 0
    for k in range(KINDS):
        if k != TRADE and k != QUOTE:
            last_trade = min(last_trade, head[k])
            last_quote = min(last_quote, head[k] - (k < QUOTE))
    while code >= 0:
        if trade_ts <= quote_ts:
            if trade_ts > last_trade:
                break
            kind[0] = TRADE
            code = _take_trade(m, trades)
            trade_ts = _head(trades)
        else:
            if quote_ts > last_quote:
                break
            kind[0] = QUOTE
            code = _take_quote(m, quotes)
            quote_ts = _head(quotes)
    head[TRADE] = trade_ts
    head[QUOTE] = quote_ts
    return code


cdef void _book_table(Columns t, Table *table, Rows *rows) except *:
    """Where the columns of a book are, and that no row of it has been looked at."""
    memset(table, 0, sizeof(Table))
    rows.single = rows.next = rows.stop = 0
    if t.n:
        table.ts, table.side, table.price, table.size = &t.ts[0], &t.side[0], &t.a[0], &t.b[0]
        table.snapshot = &t.flag[0] if t.has_flag else NULL
        table.gap = &t.gap[0] if t.has_gap else NULL


cdef inline int _take_book(Machine *m, Columns t, const Table *table, Rows *rows, int64_t last) noexcept nogil:
    """Hand the next rows of a book, up to the time `last`, to their step; at least one."""
    cdef int code
    if t.i == rows.single and rows_find(&m.book, table, t.i, t.n, rows) < 0:
        return ERR_MEMORY
    if rows.next < rows.stop and t.ts[t.i] >= m.now:
        code = machine_book_rows(m, table, rows, last)
        t.i = rows.next + (code < 0)
        return code
    rows.stop = 0
    code = _take(m, BOOK, t)
    t.i += 1
    return code


cdef inline int64_t _last_before(const int64_t *head, int kind) noexcept nogil:
    """Up to which time rows of a kind come before the next row of any other."""
    cdef int64_t last = INT64_MAX - 1
    cdef int k
    for k in range(KINDS):
        if k != kind and head[k] - (k < kind) < last:
            last = head[k] - (k < kind)
    return last


# --- buckets alone ---------------------------------------------------------------------------------------------------

@cython.final
cdef class BucketCore:
    """The volume clock alone: what VPIN needs of trades, without everything else that an engine computes.

    Parameters
    ----------
    params : toxmid.Params
        Bucket volume, window, classification and number of starts.
    instrument : toxmid.Instrument
        Lot and contract.
    """

    cdef VolumeClock clock
    cdef Block later
    cdef Bulk bulk
    cdef Lots lots
    cdef readonly int64_t used, rejected
    cdef int64_t now

    def __cinit__(self, params, instrument):
        memset(&self.clock, 0, sizeof(VolumeClock))
        memset(&self.later, 0, sizeof(Block))
        memset(&self.lots, 0, sizeof(Lots))
        _clock_init(&self.clock, params)
        _bulk_init(&self.bulk, params)
        _lots_init(&self.lots, instrument, params.bucket_volume or 0.0)
        _later_init(&self.later, params)
        self.clock.counts_only = True

    def __dealloc__(self):
        cdef Block *blocks[MAX_BLOCKS]
        cdef int i, n = _clock_blocks(&self.clock, blocks)
        for i in range(n):
            free(blocks[i].data)
        _free_later(&self.later)

    cdef int _step(self, int64_t ts, double price, double coins, int side, int64_t given) noexcept nogil:
        cdef int64_t lots, closed
        cdef int64_t finer = 1
        cdef int code
        if ts < self.now:
            return ERR_BACKWARDS
        if not in_our_years(ts):
            return ERR_TIME_RANGE
        if side < -1 or side > 1:
            return ERR_SIDE
        if not (is_price(price) and coins > 0 and is_size(coins) and given >= 0
                and lots_countable(&self.lots, price, coins, given)):
            self.rejected += 1
            return 0
        self.now = ts
        self.used += 1
        lots = lots_of(&self.lots, price, coins, given, &finer)
        if finer > 1:
            clock_refine(&self.clock, finer)
            starts_refine(&self.later, finer)
            self.bulk.lots *= finer
        self.clock.lots_per_coin = lots_per_coin(&self.lots)
        starts_set_lots(&self.later, self.clock.lots_per_coin)
        if self.bulk.on:
            code = bulk_advance(&self.bulk, ts, &self.clock, &self.later)
            bulk_add(&self.bulk, price, coins, lots)
            return code
        code = clock_prepare(&self.clock, ts, coins, lots)
        if code < 0:
            return code
        closed = self.clock.rows.used
        code = clock_fill(&self.clock, ts, price, coins, lots, side > 0, side < 0, NAN, NAN)
        if self.later.used and code == 0:
            code = starts_take(&self.later, &self.clock.rows, closed, ts, price, coins, lots, side > 0, side < 0)
        return code

    def run(self, dict trades):
        """run(trades)

        Take columns of trades, sorted by time; `side` as it is to be counted.
        """
        cdef Columns t = Columns(trades, ("price", "size"))
        cdef Run run
        cdef int code = 0
        with nogil:
            while t.i < t.n and code >= 0:
                if self._counts(t, &run):
                    code = self._pour_run(t, &run)
                else:
                    code = self._step_through(t, t.n - t.i if t.n - t.i < RUN else RUN)
        if code < 0:
            raise _error(code, TRADE, t.i - 1, t.ts[t.i - 1], self.now, t.side[t.i - 1] if t.has_side else None)

    cdef bint _counts(self, Columns t, Run *run) noexcept nogil:
        """Count the next trades; False where sums cannot tell what is in them. (Times rise through a run that counts, so its
        last one speaks for all.)"""
        return (t.has_side and not self.bulk.on and not self.later.used and clock_takes_runs(&self.clock)
                and lots_of_run(&self.lots, self.now, &t.ts[t.i], &t.a[t.i], &t.b[t.i], &t.side[t.i], t.n - t.i, run)
                and in_our_years(t.ts[t.i + run.n - 1]) and clock_in_day(&self.clock, t.ts[t.i + run.n - 1]))

    cdef int _pour_run(self, Columns t, Run *run) noexcept nogil:
        """Take a run of trades that count: by their sums while they only fill the open bucket, by `_step` where they close or open
        one."""
        cdef const int64_t *ts = &t.ts[t.i]
        cdef int64_t before
        cdef int code = 0
        while run.taken < run.n and code >= 0:
            before = run.taken
            if clock_takes_runs(&self.clock):
                lots_took(&self.lots, clock_pour_run(&self.clock, run))
                self.used += run.taken - before
                t.i += run.taken - before
                if run.taken > before:
                    self.now = ts[run.taken - 1]
            if run.taken < run.n:
                run_take_one(run)
                code = self._step_through(t, 1)
        return code

    cdef int _step_through(self, Columns t, int64_t n) noexcept nogil:
        """Take the next n trades one by one."""
        cdef int code = 0
        while n > 0 and code >= 0:
            code = self._step(t.ts[t.i], t.a[t.i], t.b[t.i], t.side[t.i] if t.has_side else 0,
                              t.lots[t.i] if t.has_lots else 0)
            t.i += 1
            n -= 1
        return code

    @property
    def buckets_waiting(self):
        """Buckets closed since the last call that took them."""
        return self.clock.rows.used // <int64_t> sizeof(BucketRow)

    def drain_buckets_into(self, int64_t[:, ::1] columns):
        """drain_buckets_into(columns)

        Write the buckets closed since the last call into `columns`, an array of shape (fields, buckets_waiting): as many of
        `BUCKET_FIELDS`, from the first, as it has room for.
        """
        _drain_into(&self.clock.rows, sizeof(BucketRow) // 8, columns)


# --- the book alone --------------------------------------------------------------------------------------------------

cdef list _levels(const Book *b, int side, Py_ssize_t limit):
    """Levels of one side, best first, as (price, size); as far as the window of near levels reaches."""
    cdef const Side *s = &b.sides[BID if side > 0 else ASK]
    cdef int64_t tick = side_top(s)
    cdef bint more = s.words > 0
    levels = []
    while more and (limit < 0 or len(levels) < limit):
        levels.append((book_price(b, tick), side_size(s, tick)))
        tick -= s.sign
        more = side_next(s, &tick)
    return levels


cdef dict _tally(const Tally *tally):
    """Counts as a dict; used and rejected rows by kind."""
    cdef dict counts = dict(tally[0])
    used = counts.pop("used")
    rejected = counts.pop("rejected")
    counts["used"] = dict(zip(KIND_NAMES, used, strict=True))
    counts["rejected"] = {
        kind: dict(zip(REASON_NAMES, rejected[k], strict=True)) for k, kind in enumerate(KIND_NAMES)
    }
    return counts


@cython.final
cdef class BookCore:
    """The book alone: levels, best prices and what had to be repaired, without everything else that an engine computes.

    Parameters
    ----------
    tick : float
        Tick of prices; 0: found in the pass.
    need_seed : bool
        Skip rows before the first snapshot.
    """

    cdef Book state
    cdef Tally counts
    cdef int64_t now

    def __cinit__(self, double tick=0.0, bint need_seed=True):
        memset(&self.state, 0, sizeof(Book))
        memset(&self.counts, 0, sizeof(Tally))
        book_init(&self.state, tick, need_seed)

    def __dealloc__(self):
        _free_book(&self.state)

    cdef int _step(self, int64_t ts, int side, double price, double size, bint snapshot, bint gap) noexcept nogil:
        cdef int code = 0
        cdef int reason = book_refusal(&self.state, side, price, size)
        if ts != self.now:
            if ts < self.now:
                return ERR_BACKWARDS
            if not in_our_years(ts):
                return ERR_TIME_RANGE
            code = book_judge(&self.state, &self.counts)
            self.now = ts
        if gap and code == 0:
            code = book_break(&self.state, ts, &self.counts)
        if reason >= 0:
            self.counts.rejected[BOOK][reason] += 1
            return code
        if code == 0:
            code = book_row(&self.state, ts, side, price, size, snapshot, &self.counts)
        if code == 0:
            self.counts.used[BOOK] += 1
        elif code > 0:
            self.counts.rejected[BOOK][BEFORE_SNAPSHOT] += 1
        return code

    cdef bint _in_time(self, int64_t ts) noexcept nogil:
        return ts >= self.now and in_our_years(ts)

    cdef int _put_rows(self, const Table *t, Rows *rows) noexcept nogil:
        cdef int code = 0
        rows_tops(rows)
        while rows.next < rows.stop and code == 0:
            if rows_pass(&self.state, t, rows, &self.counts):
                continue
            if t.ts[rows.next] != self.state.message_ts:
                code = book_judge(&self.state, &self.counts)
            if code == 0:
                code = rows_put(&self.state, t, rows, rows_group_end(rows), &self.counts)
        self.now = self.state.message_ts
        return code

    def run(self, dict book):
        """run(book)

        Take columns of a book, sorted by time. The last message stays open: rows of its time may follow.
        """
        cdef Columns t = Columns(book, ("price", "size"), True)
        cdef Table table
        cdef Rows rows
        cdef int code = 0
        _book_table(t, &table, &rows)
        with nogil:
            while t.i < t.n and code >= 0:
                if t.i == rows.single:
                    code = rows_find(&self.state, &table, t.i, t.n, &rows)
                if code == 0 and rows.next < rows.stop and self._in_time(t.ts[t.i]) and self._in_time(t.ts[rows.stop - 1]):
                    code = self._put_rows(&table, &rows)
                    t.i = rows.next + (code < 0)
                else:
                    rows.stop = 0
                    code = self._step(t.ts[t.i], t.side[t.i], t.a[t.i], t.b[t.i], t.flag[t.i] if t.has_flag else False,
                                      t.gap[t.i] if t.has_gap else False)
                    t.i += 1
        if code < 0:
            raise _error(code, BOOK, t.i - 1, t.ts[t.i - 1], self.now)

    def settle(self):
        """settle()

        The open message has ended: judge it, as the first row of a later one would.
        """
        if book_judge(&self.state, &self.counts) < 0:
            raise MemoryError("toxmid: out of memory")

    def levels(self, int side, Py_ssize_t limit=-1):
        """levels(side, limit=-1)

        Levels of one side of the book, best first, as (price, size); as far as the window of near levels reaches.
        """
        return _levels(&self.state, side, limit)

    def tally(self):
        """tally()

        Rows used and rejected, and everything that was repaired or noticed, as a dict.
        """
        return _tally(&self.counts)


# --- the engine ------------------------------------------------------------------------------------------------------

cdef class Core:
    """State of one engine, and the methods that hand it events. Use `toxmid.Engine` or `toxmid.ImpliedMid`.

    Parameters
    ----------
    params : toxmid.Params
    instrument : toxmid.Instrument
    """

    cdef Machine m

    def __cinit__(self, params, instrument, *args, **kwargs):
        memset(&self.m, 0, sizeof(Machine))

    def __init__(self, params, instrument):
        cdef Machine *m = &self.m
        cdef int64_t step = params.step_ns
        cdef int i
        self._free()
        m.set.step = step
        m.set.bar = params.bar_ns
        m.set.rule = RULE_CODES[params.classify]
        m.set.gap = params.duration_ns("gap")
        m.set.halt = params.duration_ns("halt")
        m.set.hold = params.duration_ns("stress_hold")
        m.set.stress_z = params.stress_z
        m.set.stress_excess = params.stress_excess
        m.set.cusum_drift = params.widening_drift
        m.set.cusum_alarm = params.widening_alarm
        m.set.cusum_rearm = params.widening_rearm
        m.set.move_sigmas = params.move_sigmas
        m.set.cancelled = params.vacuum_cancelled
        m.set.cascade_rate = params.cascade_rate
        m.last_price = NAN
        m.quiet_minute = m.blind = True
        _lots_init(&m.lots, instrument, params.bucket_volume or 0.0)
        signing_init(&m.signing, 0.25 * instrument.tick if instrument.tick else 0.0)
        touch_init(&m.touch)
        book_init(&m.book, instrument.tick or 0.0, not params.book_without_snapshot)
        _bulk_init(&m.bulk, params)
        _clock_init(&m.clock, params)
        _later_init(&m.later, params)
        m.clock_alone = not m.bulk.on and not m.later.used
        m.short_flow.kept = exp(-<double> step / params.duration_ns("imbalance_short"))
        m.long_flow.kept = exp(-<double> step / params.duration_ns("imbalance_long"))
        calm_init(&m.calm, params.duration_ns("history"), params.duration_ns("history_lag"))
        implied_init(&m.implied)
        _implied_params(&m.implied.p, params)
        m.flow.window = params.duration_ns("match_window")
        m.flow.grace = params.duration_ns("match_grace")
        m.flow.half_life = params.toxic_half_life
        m.flow.coins_per_unit = 1.0
        m.flow.price_slack = 0.5 * (instrument.tick or 0.0)
        m.set.stale = params.duration_ns("stale_memory") * 1e-9
        m.set.toxic_score = params.toxic_score
        _others_init(&m.others, params, &m.implied.p)
        m.signs.half_life = params.sign_half_life
        kyle_init(&m.kyle, params.duration_ns("lambda_bar"), params.lambda_memory)
        branching_init(&m.branching, params.duration_ns("branching_memory") * 1e-9)
        interest_init(&m.interest)
        depth_init(&m.depth, params.depth_bps, params.cost_size or 0.0)
        for i in range(EPISODE_KINDS):
            m.episodes[i].patience = (60 if i in (0, 3) else 10) * <int64_t> SECOND
        if block_reserve(&m.past, (60 * <int64_t> SECOND // step + 1) * sizeof(Past)) < 0:
            raise MemoryError()
        m.past.used = (60 * <int64_t> SECOND // step + 1) * sizeof(Past)
        memset(m.past.data, 0, m.past.used)

    def __dealloc__(self):
        self._free()

    cdef void _free(self) noexcept:
        cdef Block *blocks[MAX_BLOCKS]
        cdef int i, n = _machine_blocks(&self.m, blocks)
        for i in range(n):
            free(blocks[i].data)
        _free_later(&self.m.later)
        memset(&self.m, 0, sizeof(Machine))

    cdef int _check(self, int code) except -1:
        if code < 0:
            raise _error(code, TRADE, None, self.m.now, self.m.now)
        return 0

    # One event.

    def trade(self, ts, double price, double size, int side=0, int64_t lots=0):
        """trade(ts, price, size, side=0, lots=0)

        Take one print: time in ns, price in quote currency, size in base coin, side of the taker (+1, -1, 0 unknown).
        """
        cdef int64_t time = _nanoseconds(ts)
        cdef int code = machine_trade(&self.m, time, price, size, side, lots)
        if code < 0:
            raise _error(code, TRADE, None, time, self.m.now)

    def quote(self, ts, double bid, double bid_size, double ask, double ask_size):
        """quote(ts, bid, bid_size, ask, ask_size)

        Take one best bid and ask; NaN or 0 where a side is empty.
        """
        cdef int64_t time = _nanoseconds(ts)
        cdef int code = machine_quote(&self.m, time, bid, bid_size, ask, ask_size)
        if code < 0:
            raise _error(code, QUOTE, None, time, self.m.now)

    def book(self, ts, int side, double price, double size, bint snapshot=False, bint gap=False):
        """book(ts, side, price, size, snapshot=False, gap=False)

        Take one row of an L2 book: absolute size at a price of the bid (+1) or ask (-1) side, 0 deletes it. The first
        row of a snapshot after rows that were none clears the book. Rows of one time are one message. A gap says that
        updates were lost before this row: there is no book, and no mid of it, until the next snapshot.
        """
        cdef int64_t time = _nanoseconds(ts)
        cdef int code = machine_book(&self.m, time, side, price, size, snapshot, gap)
        if code < 0:
            raise _error(code, BOOK, None, time, self.m.now)

    def liquidation(self, ts, int side, double price, double size):
        """liquidation(ts, side, price, size)

        Take one record of a liquidation feed; side of the forced order (-1: a long was liquidated).
        """
        cdef int64_t time = _nanoseconds(ts)
        cdef int code = machine_liquidation(&self.m, time, side, price, size)
        if code < 0:
            raise _error(code, LIQUIDATION, None, time, self.m.now)

    def mark_price(self, ts, double price, double index=NAN):
        """mark_price(ts, price, index=nan)

        Take one mark price of the venue, and the index it is made from where that is known.
        """
        cdef int64_t time = _nanoseconds(ts)
        cdef int code = machine_mark(&self.m, time, price, index)
        if code < 0:
            raise _error(code, MARK, None, time, self.m.now)

    def reference_trade_at(self, int venue, ts, double price, double size, int side=0):
        """reference_trade_at(venue, ts, price, size, side=0)

        Take one trade of another venue of the same coin, by the venue's number.
        """
        cdef int64_t time = _nanoseconds(ts)
        cdef int code
        if not 0 <= venue < OTHER_VENUES:
            raise DataError("no such venue", column="venue", found=venue, expected=f"0 to {OTHER_VENUES - 1}")
        code = machine_reference(&self.m, time, price, size, side, venue)
        if code < 0:
            raise _error(code, REFERENCE, None, time, self.m.now)

    def open_interest(self, ts, double open_interest):
        """open_interest(ts, open_interest)

        Take one figure of the open interest: base coin.
        """
        cdef int64_t time = _nanoseconds(ts)
        cdef int code = machine_open_interest(&self.m, time, open_interest)
        if code < 0:
            raise _error(code, OPEN_INTEREST, None, time, self.m.now)

    # Arrays.

    def run(self, tuple tables):
        """run(tables)

        Take many events: seven dicts of columns (or None; those left out at the end are None) in the order of
        `KIND_NAMES`, each sorted by time. They are
        merged by time; events of one time are taken in the order of the tables, rows of one table in their order.
        """
        cdef Columns t0 = None, t1 = None, t2 = None, t3 = None, t4 = None, t5 = None, t6 = None
        cdef int64_t head[7]
        cdef int64_t first
        cdef int kind, k, code = 0
        cdef Machine *m = &self.m
        cdef Columns failed
        cdef Tape trades, quotes
        cdef Py_ssize_t row
        cdef Table table
        cdef Rows rows
        given = [
            None if t is None else Columns(t, _TABLE_COLUMNS[k], k == LIQUIDATION or k == BOOK)
            for k, t in enumerate(tables)
        ]
        given += [None] * (KINDS - len(given))
        t0, t1, t2, t3, t4, t5, t6 = given
        _tape_init(&trades, t0)
        _tape_init(&quotes, t3)
        if t2 is not None:
            _book_table(t2, &table, &rows)
        for k in range(KINDS):
            head[k] = INT64_MAX
            if given[k] is not None and len(tables[k]["ts"]):
                head[k] = tables[k]["ts"][0]
        kind = 0
        with nogil:
            while True:
                kind = 0
                first = head[0]
                for k in range(1, KINDS):
                    if head[k] < first:
                        first = head[k]
                        kind = k
                if first == INT64_MAX:
                    break
                if kind == TRADE or kind == QUOTE:
                    code = _take_tapes(m, &trades, &quotes, head, &kind)
                elif kind == BOOK:
                    code = _take_book(m, t2, &table, &rows, _last_before(head, BOOK))
                    head[2] = t2.ts[t2.i] if t2.i < t2.n else INT64_MAX
                elif kind == LIQUIDATION:
                    code = _take(m, LIQUIDATION, t1)
                    t1.i += 1
                    head[1] = t1.ts[t1.i] if t1.i < t1.n else INT64_MAX
                elif kind == MARK:
                    code = _take(m, MARK, t4)
                    t4.i += 1
                    head[4] = t4.ts[t4.i] if t4.i < t4.n else INT64_MAX
                elif kind == OPEN_INTEREST:
                    code = _take(m, OPEN_INTEREST, t6)
                    t6.i += 1
                    head[6] = t6.ts[t6.i] if t6.i < t6.n else INT64_MAX
                else:
                    code = _take(m, REFERENCE, t5)
                    t5.i += 1
                    head[5] = t5.ts[t5.i] if t5.i < t5.n else INT64_MAX
                if code < 0:
                    break
        if code < 0:
            failed = given[kind]
            row = (trades.i if kind == TRADE else quotes.i if kind == QUOTE else failed.i) - 1
            raise _error(code, kind, row, failed.ts[row], m.now)

    def feed_without_prints(self):
        """feed_without_prints()

        Say that a liquidation feed exists, before any record of it: nothing is inferred then.
        """
        self.m.flow.feed = True
        self.m.blind = False

    def finish(self):
        """finish()

        The tape has ended: close the bar that is open.
        """
        cdef int code = machine_finish(&self.m)
        if code < 0:
            raise _error(code, TRADE, None, self.m.now, self.m.now)

    # What is known.

    def peek(self):
        """peek()

        The row of the open bar, as a dict, as it would stand if the estimator's step ended with what has arrived so far.
        Nothing of the state changes.
        """
        cdef Machine ahead = self.m
        if not ahead.started:
            return None
        self._check(_look_ahead(&ahead))
        return ahead.row

    def peek_terms(self):
        """peek_terms()

        (mid, implied mid, five terms in bps: asymmetry, volume, credibility, toxic, reference, memory in s) of the open bar.
        """
        cdef Machine ahead = self.m
        if not ahead.started:
            return (NAN,) * 8
        self._check(_look_ahead(&ahead))
        return (ahead.touch.mid, ahead.implied.value, ahead.implied.asymmetry, ahead.implied.volume_gap,
                ahead.implied.credibility_gap, ahead.implied.toxic_gap, ahead.implied.reference_gap, ahead.row.memory)

    def drain_bars(self):
        """drain_bars()

        Bytes of the bars closed since the last call, rows of `BAR_FIELDS`.
        """
        return _drain(&self.m.bars)

    @property
    def bars_waiting(self):
        """Bars closed since the last call that took them."""
        return self.m.bars.used // <int64_t> sizeof(BarRow)

    def drain_bars_into(self, int64_t[:, ::1] columns):
        """drain_bars_into(columns)

        Write the bars closed since the last call into `columns`, an array of shape (len(BAR_FIELDS), bars_waiting).
        """
        _drain_into(&self.m.bars, sizeof(BarRow) // 8, columns)

    def drain_buckets(self):
        """drain_buckets()

        Bytes of the buckets closed since the last call, rows of `BUCKET_FIELDS`.
        """
        return _drain(&self.m.clock.rows)

    def drain_episodes(self):
        """drain_episodes()

        Bytes of the episodes closed since the last call, rows of `EPISODE_FIELDS`.
        """
        return _drain(&self.m.episode_rows)

    def tally(self):
        """tally()

        Rows used and rejected, and everything that was repaired or noticed, as a dict.
        """
        cdef dict counts = _tally(&self.m.tally)
        counts["sizes_rounded"] = self.m.lots.rounded
        return counts

    def book_levels(self, int side, Py_ssize_t limit=-1):
        """book_levels(side, limit=-1)

        Levels of one side of the book, best first, as (price, size); as far as the window of near levels reaches.
        """
        return _levels(&self.m.book, side, limit)

    def venues(self):
        """venues()

        Every other venue that has spoken, by its number, the index and the mark price: rows used and rejected, what is usual
        between it and our market (bps; NaN until known), its weight in the last step with a consensus and on average.
        """
        cdef Consensus *c = &self.m.others
        cdef Venue *v
        cdef int i
        told = {}
        for i in range(ALL_VENUES):
            v = &c.venues[i]
            if v.last_ts or v.used or any(v.rejected):
                told["index" if i == INDEX_PRICE else "mark" if i == MARK_PRICE else i] = {
                    "used": v.used, "rejected": dict(zip(REASON_NAMES, v.rejected, strict=True)),
                    "basis_bps": v.basis, "deviation_bps": v.deviation, "spread_bps": v.spread if v.has_trades else NAN,
                    "weight": v.weight, "mean_weight": v.weight_sum / c.steps if c.steps else NAN,
                }
        return told

    def peek_weights(self):
        """peek_weights()

        Weights of the other venues in the open bar, by number, the index and the mark price; none where there is no corridor.
        """
        cdef Machine ahead = self.m
        cdef int i
        if not ahead.started:
            return {}
        _look_ahead(&ahead)
        return {
            "index" if i == INDEX_PRICE else "mark" if i == MARK_PRICE else i: ahead.others.venues[i].weight
            for i in range(ALL_VENUES) if ahead.others.venues[i].weight > 0
        }

    def open_bucket(self):
        """open_bucket()

        The bucket that is still filling: index, time it was opened, base coin in it, and lots when full.
        """
        cdef VolumeClock *c = &self.m.clock
        return {
            "bucket": c.closed, "ts_open": c.ts_open if c.filled else None, "volume": c.coins,
            "filled": <double> c.filled / <double> c.target if c.target else None, "warmup_volume": c.warmup_coins,
        }

    def first_bucket(self):
        """first_bucket()

        The trade (with bulk classification, the bar) with which the volume clock began: time and price; None: it has not.
        Another start gives other values of VPIN.
        """
        cdef VolumeClock *c = &self.m.clock
        return {"ts": c.start_ts, "price": c.start_price} if c.start_ts else None

    def open_episodes(self):
        """open_episodes()

        Kinds and onsets (ns) of the episodes that have not closed.
        """
        return {
            EPISODE_NAMES[i]: self.m.episodes[i].before.ts for i in range(EPISODE_KINDS) if self.m.episodes[i].open
        }

    def feed_figures(self):
        """feed_figures()

        What shows how complete the liquidation feed is: counts, and volumes in base coin.
        """
        cdef Machine *m = &self.m
        return {
            "records": m.feed.records, "published_volume": m.feed.buy + m.feed.sell,
            "matched_volume": m.flow.claimed_total, "inferred_volume": m.flow.inferred_total,
            "open_interest_fallen": m.interest.fallen if m.interest.before == m.interest.before else NAN,
            "seconds": m.feed.seconds, "single_seconds": m.feed.single_seconds, "most_per_second": m.feed.most,
        }

    def warmth(self):
        """warmth()

        How much history each trailing reference had at the end: days of volume, minutes of calm statistics, VPIN values.
        """
        return {
            "volume_days": self.m.clock.volume.days, "calm_minutes": self.m.calm.count,
            "vpin_values": self.m.clock.past.size, "steps": self.m.steps,
        }

    @property
    def now(self):
        """Time of the last event used, ns; 0 before the first."""
        return self.m.now

    # State as a value.

    def save_state(self):
        """save_state()

        The whole state as bytes.
        """
        cdef Block *blocks[MAX_BLOCKS]
        cdef int n = _machine_blocks(&self.m, blocks)
        cdef Machine plain = self.m
        cdef Block *plain_blocks[MAX_BLOCKS]
        cdef VolumeClock clock
        cdef int64_t which
        _without_addresses(plain_blocks, _machine_blocks(&plain, plain_blocks))
        plain.later.data = NULL
        plain.later.capacity = 0
        parts = [(<char *> &plain)[:sizeof(Machine)]]
        _append_blocks(parts, blocks, n)
        for which in range(starts_count(&self.m.later)):
            clock = starts_clock(&self.m.later, which)[0]
            _without_addresses(plain_blocks, _clock_blocks(&clock, plain_blocks))
            parts.append((<char *> &clock)[:sizeof(VolumeClock)])
            _append_blocks(parts, blocks, _clock_blocks(starts_clock(&self.m.later, which), blocks))
        body = b"".join(parts)
        head = MAGIC + <bytes> int(LAYOUT).to_bytes(4, "little") + int(sizeof(Machine)).to_bytes(4, "little")
        return head + zlib.crc32(body).to_bytes(4, "little") + body

    def load_state(self, bytes state):
        """load_state(state)

        Take over a state that `save_state` wrote. It is checked whole before anything is touched.
        """
        cdef Block *blocks[MAX_BLOCKS]
        cdef Machine m
        cdef const char *at
        cdef int64_t later, which
        cdef VolumeClock *clock
        if len(state) < 20 or state[:8] != MAGIC:
            raise FileError("not a snapshot of an engine", expected="bytes of Engine.snapshot()")
        if state[8:16] != int(LAYOUT).to_bytes(4, "little") + int(sizeof(Machine)).to_bytes(4, "little"):
            raise FileError("snapshot of another version or another machine", expected="the version that wrote it")
        body = state[20:]
        if zlib.crc32(body).to_bytes(4, "little") != state[16:20] or len(body) < <Py_ssize_t> sizeof(Machine):
            raise FileError("snapshot is damaged: its checksum does not fit")
        memcpy(&m, <const char *> body, sizeof(Machine))
        self._free()
        at = _read_blocks(<const char *> body + sizeof(Machine), blocks, _machine_blocks(&m, blocks))
        later = starts_count(&m.later)
        memset(&m.later, 0, sizeof(Block))
        if block_reserve(&m.later, later * sizeof(VolumeClock)) < 0:
            raise MemoryError()
        for which in range(later):
            clock = starts_clock(&m.later, which)
            memcpy(clock, at, sizeof(VolumeClock))
            at = _read_blocks(at + sizeof(VolumeClock), blocks, _clock_blocks(clock, blocks))
            m.later.used += sizeof(VolumeClock)
        if m.bulk.on and m.bulk.df > 0:
            _need_student()
        self.m = m


# --- compiled callers ------------------------------------------------------------------------------------------------
#
# The same steps for a loop that is itself compiled, reached through `_core.__pyx_capi__`. An engine is the address of its
# state, which `Handle` gives and keeps alive. Codes: 0, or negative as `event_error` explains.

cdef struct Reading:            # what `toxmid.ImpliedMid` shows, every field 8 bytes wide
    double mid                  # quote currency
    double implied_mid
    double implied_lo
    double implied_hi
    double toxicity             # share of the volume
    double vpin
    double vpin_rank


cdef api int toxmid_trade(void *engine, int64_t ts, double price, double size, int64_t side) noexcept nogil:
    return machine_trade(<Machine *> engine, ts, price, size, <int> side if -1 <= side <= 1 else 0, 0)


cdef api int toxmid_quote(void *engine, int64_t ts, double bid, double bid_size, double ask, double ask_size) noexcept nogil:
    return machine_quote(<Machine *> engine, ts, bid, bid_size, ask, ask_size)


cdef api int toxmid_book(void *engine, int64_t ts, int64_t side, double price, double size, int64_t snapshot,
                         int64_t gap) noexcept nogil:
    return machine_book(<Machine *> engine, ts, <int> side if -1 <= side <= 1 else 0, price, size, snapshot != 0, gap != 0)


cdef api int toxmid_liquidation(void *engine, int64_t ts, int64_t side, double price, double size) noexcept nogil:
    return machine_liquidation(<Machine *> engine, ts, <int> side if -1 <= side <= 1 else 0, price, size)


cdef api int toxmid_mark_price(void *engine, int64_t ts, double price, double index) noexcept nogil:
    return machine_mark(<Machine *> engine, ts, price, index)


cdef api int toxmid_reference_trade(void *engine, int64_t ts, double price, double size, int64_t side,
                                    int64_t venue) noexcept nogil:
    if venue < 0 or venue >= OTHER_VENUES:
        return ERR_VENUE
    return machine_reference(<Machine *> engine, ts, price, size, <int> side if -1 <= side <= 1 else 0, <int> venue)


cdef api int toxmid_open_interest(void *engine, int64_t ts, double open_interest) noexcept nogil:
    return machine_open_interest(<Machine *> engine, ts, open_interest)


cdef api int64_t toxmid_now(void *engine) noexcept nogil:
    return (<Machine *> engine).now


cdef api int toxmid_read(void *engine, double *out) noexcept nogil:
    """Fill the fields of `Reading` with what the open step would say if it ended with what has arrived so far."""
    cdef Machine ahead = (<Machine *> engine)[0]
    cdef Reading *reading = <Reading *> out
    cdef int i, code
    for i in range(<int> (sizeof(Reading) // sizeof(double))):
        out[i] = NAN
    if not ahead.started:
        return 0
    code = _look_ahead(&ahead)
    if code < 0:
        return code
    reading.mid = ahead.touch.mid
    reading.implied_mid = ahead.implied.value
    reading.implied_lo = ahead.implied.low
    reading.implied_hi = ahead.implied.high
    reading.toxicity = ahead.row.toxicity
    reading.vpin = ahead.row.vpin
    reading.vpin_rank = ahead.row.vpin_rank
    return 0


cdef list _reading_fields():
    cdef Reading reading
    memset(&reading, 0, sizeof(reading))
    return [name for name, _ in _field_names(reading)]


READING_FIELDS = tuple(_reading_fields())


@cython.final
cdef class Handle:
    """The state of an engine as memory: the engine lives as long as this does.

    Parameters
    ----------
    engine : Core
    """

    cdef Core engine

    def __cinit__(self, Core engine not None):
        self.engine = engine

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, &self.engine.m, sizeof(Machine), 1, flags)


def event_error(int code, str kind, row, int64_t ts, int64_t now):
    """event_error(code, kind, row, ts, now)

    The error that a negative code means: of an event of a kind (of `KIND_NAMES`) at `ts`, given to an engine at `now`.
    """
    return _error(code, KIND_NAMES.index(kind), row, ts, now)
