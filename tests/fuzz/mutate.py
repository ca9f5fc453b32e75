"""Ways in which a file can go wrong, each driven by a source of random numbers.

The source is a `random.Random`: one of hypothesis, which can shrink what it finds; one with a seed; or one that is fed
by a coverage-guided fuzzer. Most damage is done to the text inside a container, which is then packed again as it was,
because damage to packed bytes seldom gets past the checksum.
"""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

Lines = list[bytes]

NASTY = (
    b"", b"nan", b"inf", b"-inf", b"-1", b"0", b"-0.0", b"1e308", b"1e-320", b"9" * 30, b"1" + b"0" * 400, b"1e999",
    b"0x10", b"1_000", b"1,5", b"true", b"null", b"None", b"\x00", b" 1", b"1 ", b"\"1", b"'",
    b"1.7976931348623157e308", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808",
    b"18446744073709551615", b"\xff\xfe", b"\xc3\x28",
    b"2025-10-10", b"1760130960", b"1760130960000", b"1760130960000000", b"1760130960000000000", b"4102444799999999",
    b"4102444799999", b"1230768000000000", b"[]", b"{}", b"buy", b"snap",
)  # fmt: skip


_PAIRS = (("_message_", "_orderbook_"), ("trades_2023", "liquidations_2023"))  # files that are read together


def lay_out(sample: Path, folder: Path, random: Random) -> Path:
    """A damaged sample in a folder of its own, with the file that it is read with, if there is one, damaged or not."""
    path = folder / sample.name
    path.write_bytes(damaged(sample, random))
    for one, other in (*_PAIRS, *(pair[::-1] for pair in _PAIRS)):
        if one in sample.name:
            companion = sample.with_name(sample.name.replace(one, other))
            whole = random.random() < 0.5
            (folder / companion.name).write_bytes(companion.read_bytes() if whole else damaged(companion, random))
    return path


def damaged(path: Path, random: Random) -> bytes:
    """Bytes of a sample, wrong in one to three ways."""
    packed = path.read_bytes()
    if random.random() < 0.15:
        return _raw(packed, random)
    text, pack = _unpacked(packed)
    if text is None:
        return _raw(packed, random)
    for _ in range(random.randrange(1, 4)):
        text = random.choice(DAMAGE)(text, random)
    return pack(text)


# --- containers ------------------------------------------------------------------------------------------------------


def _unpacked(packed: bytes) -> tuple[bytes | None, Callable[[bytes], bytes]]:
    """What is inside, and how to put something else there; None where it is no text."""
    if packed.startswith(b"\x1f\x8b"):
        return gzip.decompress(packed), lambda text: gzip.compress(text, 1, mtime=0)
    if packed.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            (info,) = archive.infolist()
            inside = archive.read(info)
        return (None if info.filename.endswith(".npy") else inside), lambda text: _zipped(info.filename, text)
    if packed.startswith((b"PAR1", b"ARROW1", b"\x93NUMPY")):
        return None, bytes
    return packed, bytes


def _zipped(name: str, text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return buffer.getvalue()


def _raw(packed: bytes, random: Random) -> bytes:
    return random.choice(
        (_cut, _flip, _flip, _overwrite, _garbage, _zeros, _twice, _repacked, _empty)
    )(packed, random)  # fmt: skip


# --- bytes -----------------------------------------------------------------------------------------------------------


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, random: Random) -> bytes:
    start, size = random.randrange(len(data) + 1), random.randrange(1, 40)
    return data[:start] + random.randbytes(size) + data[start + size :]


def _garbage(data: bytes, random: Random) -> bytes:
    return data + random.randbytes(random.randrange(1, 40))


def _zeros(data: bytes, random: Random) -> bytes:
    return data + bytes(random.randrange(1, 600))


def _twice(data: bytes, random: Random) -> bytes:
    return data * random.randrange(2, 4)


def _repacked(data: bytes, random: Random) -> bytes:
    return random.choice((gzip.compress, bz2.compress, zlib.compress))(data)


def _empty(data: bytes, random: Random) -> bytes:
    return data[:0] if random.random() < 0.5 else b"\n"


# --- text ------------------------------------------------------------------------------------------------------------


def _by_lines(change: Callable[[Lines, Random], Lines]) -> Callable[[bytes, Random], bytes]:
    def damage(text: bytes, random: Random) -> bytes:
        lines = text.splitlines(keepends=True)
        return b"".join(change(lines, random)) if lines else text

    return damage


def _separator(line: bytes) -> bytes:
    return max((b",", b"|", b" "), key=line.count)


def _field(lines: Lines, random: Random) -> Lines:
    """One field becomes something that it should not be."""
    at = random.randrange(len(lines))
    separator = _separator(lines[at])
    fields = lines[at].rstrip(b"\r\n").split(separator)
    fields[random.randrange(len(fields))] = random.choice(NASTY)
    return [*lines[:at], separator.join(fields) + b"\n", *lines[at + 1 :]]


def _value(text: bytes, random: Random) -> bytes:
    """One number of a message becomes something that it should not be."""
    digits = [index for index, byte in enumerate(text) if 48 <= byte <= 57]
    if not digits:
        return text
    start = end = random.choice(digits)
    while start and text[start - 1 : start].isdigit():
        start -= 1
    while text[end : end + 1].isdigit():
        end += 1
    return text[:start] + random.choice(NASTY) + text[end:]


def _swap_columns(lines: Lines, random: Random) -> Lines:
    """Two columns change places: everywhere, in the header only, or in the rows only."""
    separator = _separator(lines[0])
    width = lines[0].count(separator) + 1
    one, other = random.randrange(width), random.randrange(width)
    chosen = random.choice((slice(None), slice(1), slice(1, None)))

    def swapped(line: bytes) -> bytes:
        fields = line.rstrip(b"\r\n").split(separator)
        if max(one, other) < len(fields):
            fields[one], fields[other] = fields[other], fields[one]
        return separator.join(fields) + b"\n"

    lines[chosen] = [swapped(line) for line in lines[chosen]]
    return lines


def _drop_column(lines: Lines, random: Random) -> Lines:
    separator = _separator(lines[0])
    gone = random.randrange(lines[0].count(separator) + 1)
    rows = [line.rstrip(b"\r\n").split(separator) for line in lines]
    return [separator.join(row[:gone] + row[gone + 1 :]) + b"\n" for row in rows]


def _glue(lines: Lines, random: Random) -> Lines:
    at = random.randrange(len(lines))
    return [*lines[:at], lines[at].rstrip(b"\r\n"), *lines[at + 1 :]]


def _repeat(lines: Lines, random: Random) -> Lines:
    at = random.randrange(len(lines))
    return [*lines[:at], *[lines[at]] * random.randrange(2, 30), *lines[at + 1 :]]


def _lose(lines: Lines, random: Random) -> Lines:
    at = random.randrange(len(lines))
    return lines[:at] + lines[at + 1 :]


def _shuffle(lines: Lines, random: Random) -> Lines:
    rest = lines[1:]
    random.shuffle(rest)
    return lines[:1] + rest


def _insert(lines: Lines, random: Random) -> Lines:
    at = random.randrange(len(lines) + 1)
    return [*lines[:at], random.choice(STRAY), *lines[at:]]


def _splice(text: bytes, random: Random) -> bytes:
    """A piece of the text once more, somewhere else."""
    start, at = random.randrange(len(text) + 1), random.randrange(len(text) + 1)
    return text[:at] + text[start : start + random.randrange(1, 200)] + text[at:]


def _encoded(text: bytes, random: Random) -> bytes:
    plain = text.decode("utf-8", "replace")
    return random.choice(
        (
            lambda: plain.encode("utf-16"),
            lambda: b"\xef\xbb\xbf" + text,
            lambda: text.replace(b"\n", b"\r\n"),
            lambda: text.replace(b"\n", b"\r"),
            lambda: plain.replace("e", "é").encode("latin-1", "replace"),
            lambda: text.replace(b",", b";"),
            lambda: text.replace(b",", b'","'),
            text.upper,
            lambda: text.rstrip(b"\n"),
        )
    )()


STRAY = (
    b"\n", b"\r\n", b",\n", b",,,,,,,\n", b"\x00\x00\n", b"<generator object rows at 0x7f>\n", b"<!DOCTYPE html>\n",
    b'"\n',
    b"{}\n", b"[]\n", b"null\n", b"1723161256172216566 {}\n", b"1723161256172216566 null\n", b"#comment\n", b"\xff\n",
)  # fmt: skip

DAMAGE: tuple[Callable[[bytes, Random], bytes], ...] = (
    _cut,
    _flip,
    _overwrite,
    _garbage,
    _zeros,
    _twice,
    _value,
    _value,
    _splice,
    _encoded,
    *map(_by_lines, (_field, _field, _swap_columns, _drop_column, _glue, _repeat, _lose, _shuffle, _insert)),
)
