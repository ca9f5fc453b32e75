"""From a path to whole lines of text: decompression with every integrity check there is, in bounded memory.

Most readers of market data trust the decompressor to complain, and most decompressors end silently when a file was cut.
Here a file either arrives complete, or the error says how far it got.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import io
import itertools
import lzma
import os
import stat
import struct
import warnings
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from toxmid._decode import count_lines
from toxmid.errors import FileError, TapeWarning, ToxmidError
from toxmid.prefetch import prefetched
from toxmid.schema import one_line

# The same interface, three times as fast; there are no wheels of it for some machines.
inflating: Any = zlib
with contextlib.suppress(ImportError):
    inflating = importlib.import_module("isal.isal_zlib")

__all__ = [
    "BLOCK",
    "GUNZIP",
    "PLAIN_BLOCK",
    "Block",
    "Head",
    "ahead",
    "blocks",
    "fingerprint",
    "give_back",
    "is_gzip",
    "read_head",
    "unzipping",
]

BLOCK: Final = 1 << 24  # bytes of text parsed at once: about a quarter of a million rows
PLAIN_BLOCK: Final = 1 << 23  # the same for rows that need no library: about a hundred thousand
_PIECE: Final = 1 << 20
_NEAR: Final = 1 << 18  # bytes unpacked at once, which are copied while they are in the processor's cache
_HEAD: Final = 1 << 16

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_LZ4: Final = b"\x04\x22\x4d\x18"
_DBN: Final = b"DBN"
_NUMPY: Final = b"\x93NUMPY"
_ZIP: Final = b"PK\x03\x04"
_PARQUET: Final = b"PAR1"
_ARROW: Final = b"ARROW1"
_ARROW_STREAM: Final = b"\xff\xff\xff\xff"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# What is no tape, or packed as no vendor packs them, by its first bytes.
_FOREIGN: Final = {
    b"BZh": "data packed with bzip2",
    b"\xfd7zXZ\0": "data packed with xz",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"PK\x05\x06": "a zip that holds no file",
    _GZIP: "gzip data, packed once more",
    _ZSTD: "zstd data, packed once more",
    _ZIP: "a zip, packed once more",
    b"PARE": "an encrypted Parquet file",
    _ARROW_STREAM: "an Arrow IPC stream, packed: pack its batches instead",
    b"FEA1": "a Feather file of version 1",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF",
    b"version https://git-lfs": "what Git LFS keeps in place of a file: it was not fetched",
}
_ENCRYPTED: Final = 1  # flag of a member of a zip
_PACKED: Final = "text, gzip, zstd, lz4, a zip with one file, Parquet, Arrow, npz or DBN"
_HTML: Final = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")

T = TypeVar("T")

# What unpacks gzip here, for manifests: "isal 1.9.1", or zlib where that is not installed.
GUNZIP: Final = f"zlib {zlib.ZLIB_RUNTIME_VERSION}" if inflating is zlib else f"isal {metadata.version('isal')}"


class _CutError(Exception):
    """The compressed data end before their end mark; `args[0]` says what is missing."""


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file.

    They are the first `size` bytes of `buffer`. `first_row` counts lines from 1; `partial` is 1 where a cut last line
    was dropped after these lines.
    """

    buffer: bytearray
    size: int
    first_row: int
    lines: int
    partial: int = 0

    @property
    def view(self) -> memoryview:
        """The lines, without a copy."""
        return memoryview(self.buffer)[: self.size]

    @property
    def data(self) -> bytes | bytearray:
        """The lines as an object of their own."""
        return self.buffer if len(self.buffer) == self.size else bytes(self.view)


@dataclass(frozen=True)
class Head:
    """What the beginning of a file shows: enough to tell what it is."""

    path: Path
    container: str  # "text", "parquet", "arrow", "arrow stream", "numpy"
    lines: tuple[str, ...]  # complete lines only; empty where the container is not text
    name: str  # of the file and, in an archive, of its member
    companions: tuple[Path, ...] = ()  # files given along with it, which hold the rest of its rows

    @functools.cached_property
    def header(self) -> tuple[str, ...]:
        """Fields of the first line."""
        return tuple(field.strip().strip('"') for field in self.lines[0].split(",")) if self.lines else ()

    @functools.cached_property
    def first_row(self) -> dict[str, str]:
        """Fields of the second line by the names in the first, as far as it goes."""
        if len(self.lines) < 2:
            return {}
        fields = (field.strip().strip('"') for field in self.lines[1].split(","))
        return dict(zip(self.header, fields, strict=False))


def read_head(path: Path) -> Head:
    """Look at the beginning of a file.

    Raises
    ------
    FileError
        The file is missing or unreadable, a web page, or neither text nor a known container.
    """
    first = _first_bytes(path, 8)
    if first.startswith(_PARQUET):
        return Head(path, "parquet", (), path.name)
    if first.startswith(_ARROW):
        return Head(path, "arrow", (), path.name)
    if first.startswith(_ARROW_STREAM):
        return Head(path, "arrow stream", (), path.name)
    if first.startswith(_NUMPY) or (first.startswith(_ZIP) and _member(path).filename.endswith(".npy")):
        return Head(path, "numpy", (), path.name)
    text = bytearray()
    try:
        for piece in _pieces(path):
            text += piece
            if len(text) >= _HEAD:
                break
    except _CutError as cut:
        if not text:
            raise FileError(f"{cut}, before the first line", file=str(path)) from None
    name = f"{path.name} {_member(path).filename}" if first.startswith(_ZIP) else path.name
    return Head(path, "text", _head_lines(bytes(text), path), name)


def blocks(
    path: Path,
    *,
    allow_partial: bool = False,
    size: int = BLOCK,
    is_whole: Callable[[bytes], bool] | None = None,
    reusing: bool = False,
    quiet: bool = False,
) -> Iterator[Block]:
    """Whole lines of a text file, compressed or not, in blocks of about `size` bytes.

    Parameters
    ----------
    path : Path
        Plain text, gzip (any number of members), zstd or lz4 (any number of frames) or a zip with one member.
    allow_partial : bool
        Accept a file that was cut: its last, incomplete line is dropped and counted.
    size : int
        Bytes of one block before the cut at a line end.
    is_whole : callable, optional
        Says of a last line without newline whether it is whole all the same.
    reusing : bool
        The consumer calls `give_back` when it is done with a block.
    quiet : bool
        Say nothing of a cut that is allowed: somebody else reads the file as well and will.

    Raises
    ------
    FileError
        Cut or corrupt data, data after the end, a last line without newline.
    """
    row, rest = 1, b""
    pieces = _without_mark(_pieces(path))
    while True:
        filling = _Filling(_spare_buffer() if reusing else bytearray(), rest)
        cut = filling.fill(pieces, size)
        ended = cut is not None or filling.used < size
        end = filling.buffer.rfind(b"\n", 0, filling.used) + 1
        lines = count_lines(filling.buffer, end)
        if cut is not None:
            _refuse_cut(path, row + lines, cut, allow_partial, quiet)
        rest = filling.behind(end)
        if ended and rest and cut is None and is_whole is not None and is_whole(rest):
            filling.append(b"\n", 0)
            yield filling.block(filling.used, row, lines + 1, keep=reusing)
            return
        if ended and rest:
            if cut is None:
                _refuse_partial(path, row + lines, rest, allow_partial, quiet)
            yield filling.block(end, row, lines, partial=1, keep=reusing)
            return
        if not end and rest:
            raise FileError("a line is longer than a block; not a table of text", file=str(path), row=row)
        if lines:
            yield filling.block(end, row, lines, keep=reusing)
        if ended:
            return
        row += lines


# Buffers to be filled again, by whichever tape comes next: memory that is new to a process costs more than what is
# written into it. Two tapes have this many under way.
_SPARE: Final[deque[bytearray]] = deque(maxlen=8)


def give_back(block: Block) -> None:
    """Have the buffer of a block filled again. Nobody may look at the block any more."""
    _SPARE.append(block.buffer)


def _spare_buffer() -> bytearray:
    try:
        return _SPARE.pop()
    except IndexError:
        return bytearray()


class _Filling:
    """A buffer of which the first `used` bytes are text."""

    def __init__(self, buffer: bytearray, begin: bytes) -> None:
        self.buffer = buffer
        self.used = 0
        self.append(begin, 0)

    def fill(self, pieces: Iterator[bytes], size: int) -> _CutError | None:
        """Append pieces until there are `size` bytes or the file ends; a cut is handed back, for what came before it
        counts."""
        try:
            while self.used < size:
                piece = next(pieces, None)
                if piece is None:
                    return None
                self.append(piece, size)
        except _CutError as cut:
            return cut
        return None

    def append(self, piece: bytes, size: int) -> None:
        """Append a piece; where a buffer must be made for it, one that will hold `size` bytes and a piece more."""
        end = self.used + len(piece)
        if end > len(self.buffer):
            larger = bytearray(max(end, size + _NEAR if self.used else 0))
            larger[: self.used] = memoryview(self.buffer)[: self.used]
            self.buffer = larger
        with memoryview(self.buffer) as room:
            room[self.used : end] = piece
        self.used = end

    def behind(self, end: int) -> bytes:
        """The text from `end` on."""
        with memoryview(self.buffer) as text:
            return bytes(text[end : self.used])

    def block(self, end: int, row: int, lines: int, *, keep: bool, partial: int = 0) -> Block:
        """The lines up to `end`; the buffer is cut to them unless it is to be kept as large as it is."""
        if not keep:
            del self.buffer[end:]  # in place: a block is handed out without a copy
        return Block(self.buffer, end, row, lines, partial)


def ahead(iterator: Iterator[T]) -> Iterator[T]:
    """The same items, each fetched in a thread while the one before it is in use.

    Decompression releases the interpreter lock, so it runs beside the parser; nothing is left running afterwards.
    """
    return prefetched(iterator, ahead=1)


def expected_rows(head: Head) -> int | None:
    """About how many rows a file holds, from its size and its first lines; None where that would be a guess."""
    if head.container == "parquet":
        return int(pq.read_metadata(head.path).num_rows)
    lines = head.lines[1:]
    size = _text_size(head.path) if lines else None
    return None if size is None else int(size / (1 + sum(map(len, lines)) / len(lines)))


def _text_size(path: Path) -> int | None:
    """Bytes of text in a file, as far as its container says."""
    packed = path.stat().st_size
    first = _first_bytes(path, 4)
    if first.startswith(_ZIP):
        return _member(path).file_size
    if first.startswith((_ZSTD, _LZ4)):
        return None
    if not first.startswith(_GZIP):
        return packed
    with path.open("rb") as file:
        file.seek(-4, 2)
        size = int.from_bytes(file.read(4), "little")  # modulo 4 GiB, and of the last member only
    return size if size > packed else None


def is_gzip(path: Path) -> bool:
    """Whether a file is packed with gzip."""
    return _first_bytes(path, 2) == _GZIP


def fingerprint(path: Path) -> str:
    """SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_cut(path: Path, row: int, cut: _CutError, allow_partial: bool, quiet: bool) -> None:
    message = f"{cut} of row {row}, {row - 1} rows are complete"
    if not allow_partial:
        raise FileError(message, file=str(path), row=row)
    if not quiet:
        warnings.warn(f"{path}: {message}", TapeWarning, stacklevel=2)


def _refuse_partial(path: Path, row: int, rest: bytes, allow_partial: bool, quiet: bool) -> None:
    shown = rest[-60:].decode("utf-8", "replace")
    if not allow_partial:
        raise FileError(
            "the last line has no end and may be cut",
            file=str(path),
            row=row,
            found=shown,
            expected="a newline; --allow-partial (allow_partial=) drops the line and counts it",
        )
    if not quiet:
        warnings.warn(f"{path}, row {row}: the last line is cut and was dropped ({shown!r})", TapeWarning, stacklevel=2)


def _first_bytes(path: Path, count: int) -> bytes:
    try:
        _require_file(path)
        with path.open("rb") as file:
            return file.read(count)
    except ToxmidError:
        raise
    except FileNotFoundError:
        raise FileError("no such file", file=str(path)) from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", file=str(path)) from None


def _require_file(path: Path) -> None:
    """A tape is looked at first and read then, and its bytes are hashed: what can be read once only would lose rows."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or path == Path(os.devnull)):
        raise FileError("a pipe or device, not a file", file=str(path), expected="a file: it is read more than once")


def _head_lines(text: bytes, path: Path) -> tuple[str, ...]:
    start = text.removeprefix(_BYTE_ORDER_MARK)
    if start.lstrip()[:16].lower().startswith(_HTML):
        shown = start.lstrip()[:40].decode("utf-8", "replace")
        raise FileError("a web page, not market data: the download failed", file=str(path), found=shown)
    foreign = next((what for mark, what in _FOREIGN.items() if start.startswith(mark)), None)
    if foreign is not None or start[257:262] == b"ustar":
        raise FileError(f"{foreign or 'a tar archive'}", file=str(path), expected=_PACKED)
    whole = start[: start.rfind(b"\n") + 1] or start
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        wide = "UTF-32" if start.startswith(b"\xff\xfe\0\0") else "UTF-16"
        raise FileError(f"text in {wide}, as spreadsheets write it", file=str(path), expected="text in UTF-8")
    if b"\0" in whole:
        row, near = _near(whole, whole.index(b"\0"))
        if row == 1:
            raise FileError("binary data of an unknown format", file=str(path), found=whole[:8])
        raise FileError("a zero byte in what was text so far", file=str(path), row=row, found=near)
    try:
        decoded = whole.decode("utf-8")
    except UnicodeDecodeError as error:
        row, near = _near(whole, error.start)
        raise FileError("not text in UTF-8", file=str(path), row=row, found=near) from None
    if "\n" not in decoded and decoded.count("\r") > 1:
        raise FileError("lines that end in carriage returns alone", file=str(path), expected="line feeds")
    return tuple(decoded.splitlines())


def _near(text: bytes, at: int) -> tuple[int, bytes]:
    """Row of a byte, and a few bytes around it."""
    return text.count(b"\n", 0, at) + 1, text[max(text.rfind(b"\n", 0, at) + 1, at - 8) : at + 8]


def _pieces(path: Path) -> Iterator[bytes]:
    """Uncompressed bytes of a file, whatever it is packed in."""
    magic = _first_bytes(path, 8)
    unpack = next((unpack for mark, unpack in _UNPACK.items() if magic.startswith(mark)), _plain)
    pieces = (piece for piece in unpack(path) if piece)
    first = next(pieces, b"")
    whole = itertools.chain([first], pieces)
    yield from _transcoded(path, whole) if first.startswith(_DBN) else whole


def _transcoded(path: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Databento's binary encoding as the CSV of its own library."""
    try:
        dbn: Any = importlib.import_module("databento_dbn")
    except ImportError:
        raise FileError(
            "DBN files are read by the package databento-dbn", file=str(path), expected="pip install toxmid[databento]"
        ) from None
    text = io.BytesIO()
    coder = dbn.Transcoder(
        text, dbn.Encoding.CSV, dbn.Compression.NONE, pretty_px=True, pretty_ts=False, map_symbols=True
    )
    try:
        for piece in pieces:
            coder.write(piece)
            coder.flush()
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    except dbn.DBNError as error:
        raise FileError(f"corrupt DBN data: {error}", file=str(path)) from None
    except BaseException as error:  # of a record shorter than its kind the library panics, which is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise FileError(f"corrupt DBN data: {one_line(error)}", file=str(path)) from None
    if coder.buffer():
        raise _CutError("the DBN data end in the middle")


def _without_mark(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes without the byte order mark that some programs put before the first."""
    for index, piece in enumerate(pieces):
        yield piece.removeprefix(_BYTE_ORDER_MARK) if index == 0 else piece


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _gzip(path: Path) -> Iterator[bytes]:
    """All members of a gzip file; the library checks the CRC and the length of each."""
    with path.open("rb") as file:
        packed = file.read(_NEAR)
        while packed:
            member = inflating.decompressobj(wbits=31)
            while not member.eof:
                packed = packed or file.read(_NEAR)
                try:
                    piece = member.decompress(packed, _NEAR)
                except inflating.error as error:
                    raise FileError(f"corrupt gzip data near byte {file.tell()}: {error}", file=str(path)) from None
                # Output may still be pending in the library when all input is consumed: only both mean the end.
                if not packed and not piece and not member.eof:
                    raise _CutError("the gzip data end in the middle")
                yield piece
                packed = member.unconsumed_tail
            packed = _next_member(path, member.unused_data or file.read(_NEAR), file.read)


def _next_member(path: Path, packed: bytes, read: Callable[[int], bytes]) -> bytes:
    """Start of the next gzip member, or nothing. Tapes copied from block devices are padded with zeros."""
    padding = 0
    while packed and not packed.strip(b"\0"):
        padding += len(packed)
        packed = read(_PIECE)
    stripped = packed.lstrip(b"\0")
    padding += len(packed) - len(stripped)
    if len(stripped) == 1:
        stripped += read(_PIECE)
    if stripped and not stripped.startswith(_GZIP):
        raise FileError("there is something else after the end of the gzip data", file=str(path), found=stripped[:16])
    if padding:
        warnings.warn(f"{path}: {padding} zero bytes after the gzip data were passed over", TapeWarning, stacklevel=2)
    return stripped


def _zstd(path: Path) -> Iterator[bytes]:
    return _framed(path, "zstd")


def _lz4(path: Path) -> Iterator[bytes]:
    return _framed(path, "lz4")


def _framed(path: Path, codec: str) -> Iterator[bytes]:
    """All frames of a zstd or lz4 file."""
    with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, codec) as stream:
        while True:
            try:
                # A small piece, because a cut takes the whole piece with it in which it is found.
                piece = stream.read(_PIECE // 16)
            except OSError as error:
                if "Truncated" in str(error):
                    raise _CutError(f"the {codec} data end in the middle") from None
                raise FileError(f"corrupt {codec} data: {error}", file=str(path)) from None
            if not piece:
                return
            yield piece


def _zip(path: Path) -> Iterator[bytes]:
    """The only member of a zip; zipfile checks its CRC when it reaches the end."""
    member = _member(path)
    with unzipping(path), zipfile.ZipFile(path) as archive, archive.open(member) as file:
        while piece := file.read(_PIECE):
            yield piece


@contextlib.contextmanager
def unzipping(path: Path) -> Iterator[None]:
    """Whatever zipfile says of a damaged archive, which is a lot, is an error of the file."""
    try:
        yield
    except ToxmidError:
        raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError) as error:
        raise FileError(f"corrupt or cut zip: {error}", file=str(path)) from None
    except (NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
        raise FileError(f"corrupt or unreadable zip: {error}", file=str(path)) from None


def _member(path: Path) -> zipfile.ZipInfo:
    with unzipping(path), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
    if len(members) != 1:
        names = [info.filename for info in members]
        raise FileError("a zip must hold one file", file=str(path), found=names, expected="one file")
    if members[0].flag_bits & _ENCRYPTED:
        raise FileError("the zip is encrypted", file=str(path))
    return members[0]


_UNPACK: Final = {_GZIP: _gzip, _ZSTD: _zstd, _LZ4: _lz4, _ZIP: _zip}
