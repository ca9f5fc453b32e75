"""Plain rows of text to columns, without the interpreter lock: the part of reading that is done once for every row.

A row is plain if it is what a program writes that prints numbers and words and nothing else: no quotes, no blanks, no
carriage return, one spelling of every word. `Decoder` reads blocks of plain rows; a block with any other row it gives
back untouched, for a reader that knows what else a table of text may hold and says what is wrong with it.
"""

from libc.math cimport NAN
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

import sys

import numpy as np

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    static inline int lowest_bit(unsigned long long x) { unsigned long i; _BitScanForward64(&i, x); return (int) i; }
    #else
    static inline int lowest_bit(unsigned long long x) { return __builtin_ctzll(x); }
    #endif
    """
    int lowest_bit(uint64_t x) noexcept nogil

cdef enum:
    SAME = 0        # the same words in every row
    TIME = 1        # whole microseconds and the like; becomes int64 after a multiplication
    NUMBER = 2      # float64; nothing is NaN
    WORD = 3        # one of a few words; becomes its int8 code
    TEXT = 4        # any text; becomes bytes and where they end
    MAX_FIELDS = 16
    MAX_WORDS = 12
    MAX_WORD = 64
    PACKED = 8          # bytes that are looked at at once
    EXACT_DIGITS = 18   # so many digits fit into 64 bits whatever they are
    EXACT_POWERS = 23   # 10**0 to 10**22 are float64 without an error

LONGEST_WORD = MAX_WORD     # bytes, with the separator behind it
ROLES = {"same": SAME, "time": TIME, "number": NUMBER, "word": WORD, "text": TEXT}

cdef double[EXACT_POWERS] POWERS = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
]

cdef uint64_t[PACKED] TENS = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000]

# Eight bytes looked at as one integer, the first of them in its lowest bits.
cdef bint PACKS = sys.byteorder == "little"
cdef uint64_t ZEROS = 0x3030303030303030u
cdef uint64_t ABOVE_NINE = 0x7676767676767676u
cdef uint64_t HIGH_BITS = 0x8080808080808080u


cdef struct Word:
    char[MAX_WORD] text     # with the separator behind it
    Py_ssize_t length
    int8_t code
    uint64_t packed, mask   # the text and which of its bits count, where it is short enough


cdef struct Field:
    int role
    char last               # the separator behind it
    int64_t factor, low, high       # TIME: what it is multiplied by, and between what it must be
    Word[MAX_WORDS] words   # SAME: one
    int n_words
    bint short              # all words are at most eight bytes
    void *out
    uint8_t *text           # TEXT: the bytes so far, and how many
    Py_ssize_t used


cdef inline uint64_t _eight_digits(uint64_t x) noexcept nogil:
    """Number of eight decimal digits, one a byte: pairs of them, pairs of pairs, and pairs of these."""
    x = x * 10 + (x >> 8)
    return ((x & 0x000000FF000000FFu) * 0x000F424000000064u + ((x >> 16) & 0x000000FF000000FFu) * 0x0000271000000001u) >> 32


cdef inline const uint8_t *_time(Field *f, const uint8_t *p, const uint8_t *end, int64_t *value) noexcept nogil:
    """Behind a time and its separator; NULL where it is none."""
    cdef const uint8_t *begin = p
    cdef int64_t number = 0
    cdef uint64_t[2] x
    if PACKS and end - p > 2 * PACKED:  # sixteen digits are microseconds
        memcpy(x, p, 2 * PACKED)
        x[0] ^= ZEROS
        x[1] ^= ZEROS
        if ((x[0] + ABOVE_NINE) | x[0] | (x[1] + ABOVE_NINE) | x[1]) & HIGH_BITS == 0:
            number = <int64_t> (_eight_digits(x[0]) * 100_000_000 + _eight_digits(x[1]))
            p += 2 * PACKED
    while <uint8_t> (p[0] - 48) <= 9:
        number = number * 10 + (p[0] - 48)
        p += 1
        if p - begin > EXACT_DIGITS:
            return NULL
    if p[0] != f.last or number < f.low or number > f.high:
        return NULL
    value[0] = number * f.factor
    return p + 1


cdef double _slow_number(const uint8_t *begin, Py_ssize_t length) noexcept with gil:
    """The float64 nearest to any decimal number; the C library would ask the locale."""
    return float(begin[:length])


cdef inline int _first_byte(uint64_t marks) noexcept nogil:
    """Which byte has the lowest mark; `marks` has some, in highest bits of bytes."""
    return lowest_bit(marks) >> 3


cdef inline const uint8_t *_number(Field *f, const uint8_t *p, const uint8_t *end, double *value) noexcept nogil:
    """Behind a number and its separator; NULL where it is none. Up to fifteen digits are read eight at once."""
    cdef uint64_t x, marks, others, point
    cdef int first, last
    if PACKS and end - p >= PACKED:
        memcpy(&x, p, PACKED)
        x ^= ZEROS
        marks = ((x + ABOVE_NINE) | x) & HIGH_BITS
        if marks != 0:
            first = _first_byte(marks)
            point = p[first] == 46
            others = marks & (marks - point)    # but for the point, if it is one
            if others != 0:
                # Whether there is a point nobody can foretell: so no branch asks.
                last = _first_byte(others)
                if first > 0 and p[last] == f.last and last - first != 1:
                    # The digits before the point, and behind them those after it.
                    x = (x & ((<uint64_t> 1 << 8 * first) - 1)) | (x >> 8 * first >> 8 * point << 8 * first)
                    x = _eight_digits(x << (64 - 8 * (last - <int> point)))
                    value[0] = <double> x / POWERS[last - first - <int> point]
                    return p + last + 1
            elif first > 0 and end - p > first + PACKED:
                return _long_number(f, p, x, first, value)
    return _any_number(f, p, value)


cdef inline const uint8_t *_long_number(Field *f, const uint8_t *p, uint64_t x, int first, double *value) noexcept nogil:
    """Behind a number of which `x` has the digits before the point and no end; `first` is where the point stands."""
    cdef uint64_t y, marks
    cdef int decimals
    memcpy(&y, p + first + 1, PACKED)
    y ^= ZEROS
    marks = ((y + ABOVE_NINE) | y) & HIGH_BITS
    if marks != 0:
        decimals = _first_byte(marks)
        if decimals > 0 and p[first + 1 + decimals] == f.last:
            x = _eight_digits(x << (64 - 8 * first)) * TENS[decimals] + _eight_digits(y << (64 - 8 * decimals))
            value[0] = <double> x / POWERS[decimals]
            return p + first + decimals + 2
    return _any_number(f, p, value)


cdef const uint8_t *_any_number(Field *f, const uint8_t *p, double *value) noexcept nogil:
    """Behind a number and its separator; NULL where it is none.

    Digits up to 2**53 are a float64, as is a power of ten up to 10**22, and a division rounds once: the result is the
    float64 nearest to what is written, as that of any correct parser.
    """
    cdef const uint8_t *begin = p
    cdef const uint8_t *point = NULL
    cdef uint64_t digits = 0
    cdef Py_ssize_t decimals = 0
    cdef bint plain = True
    while <uint8_t> (p[0] - 48) <= 9:
        digits = digits * 10 + (p[0] - 48)
        p += 1
    if p == begin:
        value[0] = NAN
        return p + 1 if p[0] == f.last else NULL
    if p[0] == 46:
        p += 1
        point = p
        while <uint8_t> (p[0] - 48) <= 9:
            digits = digits * 10 + (p[0] - 48)
            p += 1
        decimals = p - point
        if decimals == 0:
            return NULL
    plain = p - begin <= EXACT_DIGITS and decimals < EXACT_POWERS and digits <= (<uint64_t> 1 << 53)
    if p[0] == 101 or p[0] == 69:
        plain = False
        p += 1
        if p[0] == 43 or p[0] == 45:
            p += 1
        point = p
        while <uint8_t> (p[0] - 48) <= 9:
            p += 1
        if p == point:
            return NULL
    if p[0] != f.last:
        return NULL
    value[0] = <double> digits / POWERS[decimals] if plain else _slow_number(begin, p - begin)
    return p + 1


cdef inline const uint8_t *_word(Field *f, const uint8_t *p, const uint8_t *end, int8_t *value) noexcept nogil:
    """Behind a word and its separator; NULL where it is none of the known ones."""
    cdef int k = 0
    cdef uint64_t x
    cdef Word *word
    if f.short and end - p >= PACKED:
        # Mostly it is one of the first two, and which of them nobody can foretell: so no branch asks.
        memcpy(&x, p, PACKED)
        k = f.n_words > 1 and (x & f.words[0].mask) != f.words[0].packed
        while k < f.n_words and (x & f.words[k].mask) != f.words[k].packed:
            k += 1
    else:
        while k < f.n_words and not (end - p >= f.words[k].length
                                     and memcmp(p, f.words[k].text, f.words[k].length) == 0):
            k += 1
    if k == f.n_words:
        return NULL
    word = &f.words[k]
    value[0] = word.code
    return p + word.length


cdef inline const uint8_t *_text(Field *f, const uint8_t *p) noexcept nogil:
    """Behind a text and its separator, the text kept; NULL where it is empty, quoted, or no ASCII."""
    cdef const uint8_t *begin = p
    while p[0] != f.last:
        if p[0] <= 32 or p[0] >= 127 or p[0] == 34 or p[0] == 44:
            return NULL
        f.text[f.used] = p[0]
        f.used += 1
        p += 1
    return p + 1 if p > begin else NULL


cdef Py_ssize_t _rows(Field *fields, int n, int shared, const uint8_t *p, const uint8_t *end, Py_ssize_t room) noexcept nogil:
    """Decode rows up to `end`, which is behind a newline. How many there were, -1 where one is not plain.

    Rows of one message begin alike: what the first `shared` fields say is taken over from the row before if their text
    is the same.
    """
    cdef Py_ssize_t row = 0, same = 0
    cdef const uint8_t *begin
    cdef const uint8_t *before = NULL
    cdef int k
    cdef Field *f
    while p < end:
        if row == room:
            return -1
        begin = p
        k = 0
        if before != NULL and end - p >= same and memcmp(p, before, same) == 0:
            for k in range(shared):
                f = &fields[k]
                if f.role == TIME:
                    (<int64_t *> f.out)[row] = (<int64_t *> f.out)[row - 1]
                elif f.role == WORD:
                    (<int8_t *> f.out)[row] = (<int8_t *> f.out)[row - 1]
            k = shared
            p += same
        else:
            before = begin
        while k < n:
            if k == shared:
                same = p - begin
            f = &fields[k]
            if f.role == NUMBER:
                p = _number(f, p, end, &(<double *> f.out)[row])
            elif f.role == WORD:
                p = _word(f, p, end, &(<int8_t *> f.out)[row])
            elif f.role == TIME:
                p = _time(f, p, end, &(<int64_t *> f.out)[row])
            elif f.role == SAME:
                if end - p < f.words[0].length or memcmp(p, f.words[0].text, f.words[0].length) != 0:
                    return -1
                p += f.words[0].length
            else:
                p = _text(f, p)
                (<int32_t *> f.out)[row + 1] = <int32_t> f.used
            if p == NULL:
                return -1
            k += 1
        if shared == n:
            same = p - begin
        row += 1
    return row


def count_lines(const uint8_t[::1] data, Py_ssize_t end):
    """count_lines(data, end)

    How many line ends the first `end` bytes hold.
    """
    cdef Py_ssize_t i = 0, stop, lines = 0
    cdef const uint8_t *p
    cdef uint8_t few
    if not 0 <= end <= data.shape[0]:
        raise ValueError("end is outside of the data")
    if end == 0:
        return 0
    p = &data[0]
    with nogil:
        while i < end:
            # In a byte while it cannot run over: so the compiler may count many at once.
            stop = i + 255 if end - i > 255 else end
            few = 0
            while i < stop:
                few += p[i] == 10
                i += 1
            lines += few
    return lines


cdef class Decoder:
    """Decoder of the rows of one file.

    Parameters
    ----------
    fields : sequence of (role, argument)
        For each column of the file in its order: ``("same", text)``, ``("time", (factor, low, high))`` with bounds
        before the multiplication, ``("number", None)``, ``("word", {word: code})``, ``("text", None)``.
    separator : bytes
        What stands between fields.
    """

    cdef Field[MAX_FIELDS] fields
    cdef int n, shared

    def __init__(self, fields, bytes separator=b","):
        cdef int k
        cdef Field *f
        if not 0 < len(fields) <= MAX_FIELDS or len(separator) != 1 or separator == b"\n":
            raise ValueError("the decoder takes 1 to 16 fields and a separator of one byte")
        self.n = <int> len(fields)
        for k in range(self.n):
            role, argument = fields[k]
            f = &self.fields[k]
            f.role = ROLES[role]
            f.last = b"\n"[0] if k == self.n - 1 else separator[0]
            if f.role == TIME:
                f.factor, f.low, f.high = argument
                if not 0 < argument[0] * argument[2] < 1 << 63:
                    raise ValueError("a time must fit into 64 bits")
            elif f.role == SAME:
                self._learn(f, {argument: 0})
            elif f.role == WORD:
                self._learn(f, argument)
        # What a message says of all its rows stands in front, up to its times; the rest is each row's own.
        self.shared = 0
        k = 0
        while k < self.n and self.fields[k].role not in (NUMBER, TEXT):
            k += 1
            if self.fields[k - 1].role == TIME:
                self.shared = k

    cdef void _learn(self, Field *f, dict codes) except *:
        cdef bytes text
        if not 0 < len(codes) <= MAX_WORDS:
            raise ValueError("a field has 1 to 12 words")
        f.n_words, f.short = 0, PACKS
        for word, code in codes.items():
            text = word.encode() + bytes((f.last,))
            if len(text) > MAX_WORD:
                raise ValueError("a word is too long")
            memcpy(f.words[f.n_words].text, <const char *> text, len(text))
            f.words[f.n_words].length = len(text)
            f.words[f.n_words].code = code
            f.short = f.short and len(text) <= PACKED
            if len(text) <= PACKED:
                f.words[f.n_words].packed = int.from_bytes(text, "little")
                f.words[f.n_words].mask = ~<uint64_t> 0 >> (64 - 8 * len(text))
            f.n_words += 1

    def decode(self, const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t rows):
        """Columns of the rows from byte `start` on, of which there are `rows`; None where one is not plain.

        A column each of int64 for times, float64 for numbers, int8 for words, (int32, bytes) for texts: where each ends
        and all of them; None for what is the same in every row.
        """
        cdef Py_ssize_t size = data.shape[0], done
        cdef const uint8_t *p
        cdef Field[MAX_FIELDS] fields
        cdef Field *f
        cdef int k
        cdef const uint8_t[::1] kept
        if not 0 <= start <= size or rows < 0:
            raise ValueError("start is outside of the data")
        if start == size or data[size - 1] != 10 or size >= 1 << 31:
            return None
        columns = []
        memcpy(fields, self.fields, sizeof(fields))
        for k in range(self.n):
            columns.append(self._column(&fields[k], rows, size - start))
        p = &data[start]
        with nogil:
            done = _rows(fields, self.n, self.shared, p, &data[0] + size, rows)
        if done != rows:
            return None
        return [
            column if fields[k].role != TEXT else (column[0], column[1][:fields[k].used])
            for k, column in enumerate(columns)
        ]

    cdef object _column(self, Field *f, Py_ssize_t rows, Py_ssize_t size):
        """Room for a column, which the field then points to."""
        cdef int64_t[::1] times
        cdef double[::1] numbers
        cdef int8_t[::1] words
        cdef int32_t[::1] ends
        cdef uint8_t[::1] text
        if f.role == SAME:
            return None
        if f.role == TEXT:
            column = np.empty(rows + 1, np.int32), np.empty(size, np.uint8)
            ends, text = column
            ends[0] = 0
            f.out, f.text, f.used = &ends[0], &text[0], 0
            return column
        column = np.empty(max(rows, 1), {TIME: np.int64, NUMBER: np.float64, WORD: np.int8}[f.role])
        if f.role == TIME:
            times = column
            f.out = &times[0]
        elif f.role == NUMBER:
            numbers = column
            f.out = &numbers[0]
        else:
            words = column
            f.out = &words[0]
        return column[:rows]
