"""Bytes: every way in which a file can be packed, padded, cut or damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import threading
import warnings
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toxmid.errors import FileError, TapeWarning
from toxmid.readers import files
from toxmid.readers.files import ahead, blocks, fingerprint, read_head

TEXT = b"".join(b"%d,%d\n" % (i, i * i) for i in range(5000))


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def library(request, monkeypatch):
    """Whatever unpacks gzip: what is wrong with a file is told alike."""
    isal_zlib = pytest.importorskip("isal.isal_zlib") if request.param == "isal" else zlib
    monkeypatch.setattr(files, "inflating", isal_zlib)


def framed(data: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def zstd(data: bytes) -> bytes:
    return framed(data, "zstd")


def lz4(data: bytes) -> bytes:
    return framed(data, "lz4")


def zipped(data: bytes, names: tuple[str, ...] = ("tape.csv",)) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, data)
    return buffer.getvalue()


def text_of(path, **kwargs) -> bytes:
    return b"".join(block.data for block in blocks(path, **kwargs))


PACKINGS = pytest.mark.parametrize(
    "pack", [lambda data: data, gzip.compress, zstd, lz4, zipped], ids=["plain", "gzip", "zstd", "lz4", "zip"]
)
STREAMS = pytest.mark.parametrize("pack", [gzip.compress, zstd, lz4], ids=["gzip", "zstd", "lz4"])


@PACKINGS
@pytest.mark.parametrize("size", [7, 1000, 1 << 20])
def test_all_lines_arrive_whole_and_numbered(write, pack, size):
    path = write("tape", pack(TEXT))
    row = 1
    for block in blocks(path, size=max(size, 12)):
        assert block.first_row == row
        assert block.data.endswith(b"\n")
        assert block.data.count(b"\n") == block.lines
        row += block.lines
    assert row == 5001
    assert text_of(path, size=max(size, 12)) == TEXT


@STREAMS
def test_several_members(write, pack):
    assert text_of(write("tape", pack(TEXT) + pack(TEXT) + pack(b"last\n"))) == TEXT + TEXT + b"last\n"


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(cut=st.integers(20, len(gzip.compress(TEXT)) - 1))
def test_cut_gzip_is_an_error_wherever_the_cut(write, cut):
    path = write("tape.gz", gzip.compress(TEXT)[:cut])
    with pytest.raises(FileError, match="end in the middle") as caught:
        text_of(path)
    assert 1 <= caught.value.row <= 5001


@STREAMS
def test_cut_data_say_how_far_they_got(write, pack):
    data = pack(bytes(random.Random(1).choices(b"0123456789\n", k=500_000)))
    path = write("tape", data[: len(data) // 2])
    with pytest.raises(FileError, match=r"end in the middle of row \d+, \d+ rows are complete") as caught:
        text_of(path)
    assert caught.value.row > 1000


@STREAMS
def test_cut_data_may_be_allowed(write, pack):
    data = bytes(random.Random(1).choices(b"0123456789\n", k=500_000))
    path = write("tape", pack(data)[: len(pack(data)) // 2])
    with pytest.warns(TapeWarning, match="end in the middle"):
        blocks_ = list(blocks(path, allow_partial=True, size=1 << 16))
    read = b"".join(block.data for block in blocks_)
    assert data.startswith(read)
    assert len(read) > 100_000
    assert [block.partial for block in blocks_][-1] == 1


def test_cut_at_a_line_end_is_still_told(write):
    packed = gzip.compress(TEXT, 0)
    path = write("tape.gz", packed[: packed.index(b"100,10000\n") + 10])
    with pytest.warns(TapeWarning, match="in the middle of row 102, 101 rows are complete"):
        assert text_of(path, allow_partial=True).endswith(b"\n100,10000\n")


@pytest.mark.parametrize("position", [-6, -2], ids=["checksum", "length"])
def test_wrong_checksum_of_gzip(write, position):
    packed = bytearray(gzip.compress(TEXT))
    packed[position] ^= 1
    with pytest.raises(FileError, match="corrupt gzip data"):
        text_of(write("tape.gz", bytes(packed)))


@pytest.mark.parametrize("pack", [gzip.compress, zipped], ids=["gzip", "zip"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_is_seen(write, pack, share):
    packed = bytearray(pack(TEXT))
    packed[int(len(pack(TEXT)) * share)] ^= 16
    with pytest.raises(FileError, match=r"corrupt|end in the middle|something else"):
        text_of(write("tape", bytes(packed)))


def test_garbage_after_the_end(write):
    with pytest.raises(FileError, match="something else after the end"):
        text_of(write("tape.gz", gzip.compress(TEXT) + b"<html>gone</html>"))
    with pytest.raises(FileError, match="corrupt zstd"):
        text_of(write("tape.zst", zstd(TEXT) + b"<html>gone</html>"))


@pytest.mark.parametrize("zeros", [1, 511, 3 << 20])
def test_zero_padding_is_accepted_with_a_warning(write, zeros):
    path = write("tape.gz", gzip.compress(TEXT) + bytes(zeros))
    with pytest.warns(TapeWarning, match=f"{zeros} zero bytes"):
        assert text_of(path) == TEXT


def test_zero_padding_between_members(write):
    with pytest.warns(TapeWarning, match="5 zero bytes"):
        assert text_of(write("tape.gz", gzip.compress(TEXT) + bytes(5) + gzip.compress(TEXT))) == TEXT + TEXT


@PACKINGS
def test_last_line_without_end(write, pack):
    path = write("tape", pack(b"1,50000.1\n2,500"))
    with pytest.raises(FileError, match="may be cut") as caught:
        text_of(path)
    assert (caught.value.row, caught.value.found) == (2, "2,500")
    with pytest.warns(TapeWarning, match="row 2"):
        assert text_of(path, allow_partial=True) == b"1,50000.1\n"


def test_a_file_of_one_cut_line(write):
    with pytest.warns(TapeWarning, match="row 1"):
        (block,) = blocks(write("tape", b"abc"), allow_partial=True)
    assert (block.data, block.lines, block.partial) == (b"", 0, 1)


@PACKINGS
def test_empty_file(write, pack):
    path = write("tape", pack(b""))
    assert list(blocks(path)) == []
    assert read_head(path).lines == ()


def test_large_expansion_stays_in_bounds(write):
    path = write("tape.gz", gzip.compress((b"0" * 99 + b"\n") * 300_000))
    assert max(len(block.data) for block in blocks(path, size=1 << 20)) < 3 << 20


def test_a_line_longer_than_a_block(write):
    with pytest.raises(FileError, match="longer than a block"):
        text_of(write("tape", b"0" * 3_000_000 + b"\n"), size=1 << 20)


def test_byte_order_mark_is_no_data(write):
    path = write("tape", b"\xef\xbb\xbfa,b\n1,2\n")
    assert text_of(path) == b"a,b\n1,2\n"
    assert read_head(path).header == ("a", "b")


@pytest.mark.parametrize("names", [(), ("a.csv", "b.csv")])
def test_a_zip_holds_one_file(write, names):
    path = write("tape.zip", zipped(TEXT, names))
    with pytest.raises(FileError, match=r"zip must hold one file|zip that holds no file"):
        read_head(path)


def test_cut_zip(write):
    data = zipped(TEXT)
    with pytest.raises(FileError, match="corrupt or cut zip"):
        read_head(write("tape.zip", data[: len(data) // 2]))


@pytest.mark.parametrize(
    "page",
    [b"<!DOCTYPE html><html>404</html>\n", b"\n  <html>\n", b'<?xml version="1.0"?><Error>NoSuchKey</Error>'],
)
@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress], ids=["plain", "gzip"])
def test_web_page_under_the_name_of_a_tape(write, page, pack):
    with pytest.raises(FileError, match="web page"):
        read_head(write("tape.csv.gz", pack(page)))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"a,b\n\0\0\0\n", "zero byte"),
        (b"\0\0\0\n", "unknown format"),
        ("é,b\n".encode("latin-1"), "UTF-8"),
        ("a,b\n".encode("utf-16"), "UTF-16"),
        ("a,b\n".encode("utf-32"), "UTF-32"),
        (b"a,b\r1,2\r3,4\r", "carriage returns alone"),
        (bz2.compress(TEXT), "bzip2"),
        (lzma.compress(TEXT), "packed with xz"),
        (gzip.compress(gzip.compress(TEXT)), "gzip data, packed once more"),
        (zipped(gzip.compress(TEXT)), "gzip data, packed once more"),
        (gzip.compress(zipped(TEXT)), "a zip, packed once more"),
        (gzip.compress(b"\xff\xff\xff\xff\x10\0\0\0"), "Arrow IPC stream, packed"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes of a container hold the time of its making
)
def test_neither_text_nor_container(write, content, what):
    with pytest.raises(FileError, match=what):
        read_head(write("tape.csv", content))


def test_an_encrypted_zip_is_named(write):
    data = bytearray(zipped(TEXT))
    data[6] |= 1  # the flag stands in the header of the member and in the directory at the end
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(FileError, match="the zip is encrypted"):
        read_head(write("tape.zip", bytes(data)))


def test_a_program_in_front_of_a_zip_is_no_text(write):
    with pytest.raises(FileError, match=r"not text|zero byte|unknown format"):
        read_head(write("tape.zip", b"MZ junk" + zipped(TEXT)))


def test_an_archive_of_many_files_is_named(write):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("a_trades.csv")
        member.size = len(TEXT)
        archive.addfile(member, io.BytesIO(TEXT))
    with pytest.raises(FileError, match="a tar archive"):
        read_head(write("tape.tar.gz", buffer.getvalue()))


def test_what_can_be_read_once_only_is_refused(tmp_path):
    """Its first bytes would be gone when its rows are read; and a pipe that nobody writes to never ends."""
    os.mkfifo(tmp_path / "a_trades.csv")
    with pytest.raises(FileError, match="a pipe or device"):
        read_head(tmp_path / "a_trades.csv")
    reading, writing = os.pipe()
    os.write(writing, TEXT[:100])
    os.close(writing)
    try:
        with pytest.raises(FileError, match="a pipe or device"):
            read_head(Path(f"/dev/fd/{reading}"))
    finally:
        os.close(reading)


def test_missing_file(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_head(tmp_path / "nothing.csv")
    with pytest.raises(FileError, match="cannot be read"):
        read_head(tmp_path)


def test_head_of_a_cut_gzip(write):
    assert read_head(write("tape.gz", gzip.compress(TEXT)[:2000])).lines[0] == "0,0"
    with pytest.raises(FileError, match="before the first line"):
        read_head(write("tape.gz", gzip.compress(TEXT)[:11]))


def test_ahead_gives_the_same_and_ends_its_thread():
    before = threading.active_count()
    assert list(ahead(iter(range(1000)))) == list(range(1000))
    for item in ahead(iter(range(1000))):
        if item == 3:
            break
    assert threading.active_count() == before


def test_ahead_passes_errors_on():
    def failing():
        yield 1
        raise FileError("gone")

    stream = ahead(failing())
    assert next(stream) == 1
    with pytest.raises(FileError, match="gone"):
        next(stream)


def test_warnings_name_the_file(write):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        text_of(write("tape.gz", gzip.compress(TEXT) + bytes(5)))
    assert "tape.gz" in str(caught[0].message)


def test_fingerprint(write):
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint(write("abc", b"abc")) == known
