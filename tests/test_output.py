"""The output directory: whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from toxmid import output
from toxmid.errors import FileError
from toxmid.output import build_manifest, describe_inputs, is_output, is_same_run, load, load_manifest, save, to_json

needs_posix = pytest.mark.skipif(os.name == "nt", reason="resource limits and SIGKILL are of POSIX")


def frames(rows: int = 3, value: float = 1.0) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    ts = pl.Series("ts", np.arange(rows) * 1_000_000_000).cast(pl.Datetime("ns", "UTC"))
    bars = pl.DataFrame({"ts": ts, "mid": [value] * rows})
    return bars, pl.DataFrame({"bucket": [0, 1]}), pl.DataFrame({"kind": []}, schema={"kind": pl.String})


def manifest(**changes: Any) -> dict[str, Any]:
    inputs = [{"kind": "trades", "path": "a.csv", "bytes": 10, "sha256": "ab" * 32}]
    return {**build_manifest(inputs=inputs, params={"bar": "1s"}, instrument={"tick": 0.1}), **changes}


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- round trip -------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    bars, buckets, events = frames()
    written = save(tmp_path / "out", bars, buckets, events, manifest())
    loaded = load(tmp_path / "out")
    for read, saved in zip(loaded[:3], (bars, buckets, events), strict=True):
        assert_frame_equal(read, saved)
    assert loaded[3] == written == load_manifest(tmp_path / "out")
    assert written["rows"] == {"bars": 3, "buckets": 2, "events": 0}
    assert leftovers(tmp_path) == ["out"]
    assert leftovers(tmp_path / "out") == ["bars.parquet", "buckets.parquet", "events.parquet", "manifest.json"]


def test_missing_parents_are_made_and_an_empty_directory_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "a" / "empty").mkdir(parents=True)
    save(tmp_path / "a" / "empty", *frames(), manifest())
    save(tmp_path / "b" / "c", *frames(), manifest())
    assert is_output(tmp_path / "a" / "empty")
    assert is_output(tmp_path / "b" / "c")


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(tmp_path / name, *frames(), manifest())
    for file in leftovers(tmp_path / "one"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


@pytest.mark.parametrize("cuts", [[7], [100_000, 150_000], [131_072]])
def test_the_bytes_do_not_tell_in_what_pieces_a_table_was_made(tmp_path: Path, cuts: list[int]) -> None:
    """A run over several days and its parts together are the same files."""
    bars, buckets, events = frames(200_000)
    edges = [0, *cuts, bars.height]
    pieces = pl.concat([bars[one:other] for one, other in itertools.pairwise(edges)], rechunk=False)
    assert pieces.n_chunks() == len(cuts) + 1
    save(tmp_path / "whole", bars.rechunk(), buckets, events, manifest())
    save(tmp_path / "pieces", pieces, buckets, events, manifest())
    files = [(tmp_path / name / "bars.parquet").read_bytes() for name in ("whole", "pieces")]
    assert files[0] == files[1]


def test_manifest_is_sorted_json_without_nan(tmp_path: Path) -> None:
    save(tmp_path / "out", *frames(), manifest(memory=float("nan"), zebra=1, alpha=2))
    text = (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    entries = json.loads(text)
    assert entries["memory"] is None
    assert list(entries) == sorted(entries)


def test_a_file_name_that_is_no_text_is_kept(tmp_path: Path) -> None:
    """File systems take any bytes; Python stands them in its text as lone surrogates."""
    name = "/tapes/\udcff_trades.csv"
    save(tmp_path / "out", *frames(), manifest(note=name))
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["note"] == name


# --- what stands in the way -------------------------------------------------------------------------------------------


def test_earlier_output_is_replaced_only_when_allowed(tmp_path: Path) -> None:
    save(tmp_path / "out", *frames(value=1.0), manifest())
    with pytest.raises(FileError, match="already holds the output of another run"):
        save(tmp_path / "out", *frames(value=2.0), manifest())
    assert load(tmp_path / "out")[0]["mid"][0] == 1.0
    save(tmp_path / "out", *frames(value=2.0), manifest(), overwrite=True)
    assert load(tmp_path / "out")[0]["mid"][0] == 2.0
    assert leftovers(tmp_path) == ["out"]


def test_a_report_inside_goes_with_the_run_it_was_made_from(tmp_path: Path) -> None:
    save(tmp_path / "out", *frames(), manifest())
    (tmp_path / "out" / "report.html").write_text("old")
    save(tmp_path / "out", *frames(), manifest(), overwrite=True)
    assert "report.html" not in leftovers(tmp_path / "out")


@pytest.mark.parametrize("content", ["notes.txt", "manifest.json"])
def test_a_directory_of_somebody_else_is_never_touched(tmp_path: Path, content: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / content).write_text('{"format": "something else"}')
    with pytest.raises(FileError, match="is not a toxmid output") as caught:
        save(tmp_path / "out", *frames(), manifest(), overwrite=True)
    assert caught.value.file == str(tmp_path / "out")
    assert leftovers(tmp_path / "out") == [content]
    assert leftovers(tmp_path) == ["out"]


def test_foreign_files_in_an_output_are_not_deleted(tmp_path: Path) -> None:
    save(tmp_path / "out", *frames(), manifest())
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"would have to delete.*notes\.txt"):
        save(tmp_path / "out", *frames(), manifest(), overwrite=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_file_or_a_root_is_no_directory_to_write_into(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(FileError, match="is a file"):
        save(tmp_path / "out", *frames(), manifest())
    with pytest.raises(FileError, match="root of a file system"):
        save(Path(tmp_path.anchor), *frames(), manifest())


# --- failures while writing -------------------------------------------------------------------------------------------


CHILD = """
    import os, signal, sys
    from pathlib import Path
    import polars as pl
    from toxmid import output
    from toxmid.errors import FileError

    def frames(value, rows):
        bars = pl.DataFrame({"mid": [value + i * 0.1 for i in range(rows)]})
        return bars, pl.DataFrame({"b": [1]}), pl.DataFrame({"k": [1]})

    manifest = output.build_manifest(inputs=[], params={}, instrument={})
"""


def run_child(body: str, target: Path) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(CHILD) + textwrap.dedent(body)
    root = Path(output.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-c", code, str(target)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@needs_posix
def test_full_disk_leaves_the_old_output(tmp_path: Path) -> None:
    """A limit on the size of a file stands in for a full disk: the write itself fails, part-way."""
    save(tmp_path / "out", *frames(value=1.0), manifest())
    done = run_child(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            output.save(sys.argv[1], *frames(2.0, 100_000), manifest, overwrite=True)
        except FileError as error:
            print(error)
        """,
        tmp_path / "out",
    )
    assert "out: cannot be written: " in done.stdout, done.stderr
    assert load(tmp_path / "out")[0]["mid"].to_list() == [1.0] * 3
    assert leftovers(tmp_path) == ["out"]


@needs_posix
@pytest.mark.parametrize("renames_before_kill", [0, 1, 2])
def test_kill_at_any_step_of_the_exchange(tmp_path: Path, renames_before_kill: int) -> None:
    save(tmp_path / "out", *frames(value=1.0), manifest())
    done = run_child(
        f"""
        rename, calls = Path.rename, []
        def counted(self, target):
            if len(calls) == {renames_before_kill}:
                os.kill(os.getpid(), signal.SIGKILL)
            calls.append(target)
            return rename(self, target)
        Path.rename = counted
        import shutil
        shutil.rmtree = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
        output.save(sys.argv[1], *frames(2.0, 4), manifest, overwrite=True)
        """,
        tmp_path / "out",
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert load(tmp_path / "out")[0].height == (4 if renames_before_kill == 2 else 3)
    save(tmp_path / "out", *frames(value=3.0), manifest(), overwrite=True)
    assert load(tmp_path / "out")[0]["mid"][0] == 3.0
    assert not (tmp_path / ".out.toxmid-previous").exists()


def test_failed_exchange_puts_the_old_output_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "out", *frames(value=1.0), manifest())
    rename = Path.rename

    def fail_for_partial(self: Path, target: Path) -> Path:
        if self.name.endswith(".toxmid-partial"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_partial)
    with pytest.raises(FileError, match="cannot be written: Input/output error"):
        save(tmp_path / "out", *frames(value=2.0), manifest(), overwrite=True)
    assert load(tmp_path / "out")[0]["mid"][0] == 1.0
    assert leftovers(tmp_path) == ["out"]


def test_a_table_that_does_not_read_back_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.DataFrame, "write_parquet", lambda self, file, **_: file.write(b"PAR1 half a table"))
    with pytest.raises(FileError, match="is not a whole parquet file"):
        save(tmp_path / "out", *frames(), manifest())
    assert leftovers(tmp_path) == []


def test_only_what_was_left_long_ago_is_swept(tmp_path: Path) -> None:
    for name, age in (("old", 100_000), ("new", 10)):
        path = tmp_path / f".out.{name}.toxmid-partial"
        path.mkdir()
        then = path.stat().st_mtime - age
        os.utime(path, (then, then))
    save(tmp_path / "out", *frames(), manifest())
    assert leftovers(tmp_path) == [".out.new.toxmid-partial", "out"]


def test_a_single_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output.write_whole(tmp_path / "state", b"first")
    output.write_whole(tmp_path / "state", b"second")
    assert (tmp_path / "state").read_bytes() == b"second"

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(FileError, match="cannot be written: No space left on device"):
        output.write_whole(tmp_path / "state", b"third")
    assert (tmp_path / "state").read_bytes() == b"second"
    assert leftovers(tmp_path) == ["state"]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_missing_directory_and_foreign_directory_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such directory"):
        load(tmp_path / "none")
    with pytest.raises(FileError, match="has no manifest"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "is not the manifest of a toxmid output"),
        ('{"format": "toxmid-output", "format_version": 99}', "written in another format"),
        ('{"format": "toxmid-output", "format_version": 1}', "is incomplete"),
    ],
)
def test_bad_manifests_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    save(tmp_path / "out", *frames(), manifest())
    (tmp_path / "out" / "manifest.json").write_text(text)
    with pytest.raises(FileError, match=message) as caught:
        load(tmp_path / "out")
    assert caught.value.file is not None
    assert caught.value.file.endswith("manifest.json")


def test_damaged_tables_are_found_without_reading_them(tmp_path: Path) -> None:
    save(tmp_path / "out", *frames(), manifest())
    bars = tmp_path / "out" / "bars.parquet"
    whole = bars.read_bytes()
    frames(rows=2)[0].write_parquet(bars)
    with pytest.raises(FileError, match="rows are missing") as caught:
        load_manifest(tmp_path / "out")
    assert (caught.value.found, caught.value.expected) == (2, 3)
    bars.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="is not a whole parquet file"):
        load(tmp_path / "out")
    bars.unlink()
    with pytest.raises(FileError, match=r"is not a whole parquet file: .*[Nn]o such file"):
        load(tmp_path / "out")
    assert is_output(tmp_path / "out")


# --- the same run -----------------------------------------------------------------------------------------------------


def test_second_run_with_equal_inputs_is_the_same(tmp_path: Path) -> None:
    save(tmp_path / "out", *frames(), manifest())
    moved = [{**entry, "path": "/elsewhere/a.csv"} for entry in manifest()["inputs"]]
    assert is_same_run(tmp_path / "out", manifest())
    assert is_same_run(tmp_path / "out", manifest(inputs=moved))
    assert is_same_run(tmp_path / "out", manifest(instrument=None))


@pytest.mark.parametrize(
    "change",
    [
        {"params": {"bar": "5s"}},
        {"instrument": {"tick": 0.5}},
        {"versions": {"toxmid": "99"}},
        {"request": {"start": "2025-10-10"}},
        {"inputs": []},
        {"inputs": [{"kind": "trades", "path": "a.csv", "bytes": 10, "sha256": "cd" * 32}]},
        {"inputs": [{"kind": "quotes", "path": "a.csv", "bytes": 10, "sha256": "ab" * 32}]},
    ],
)
def test_any_difference_makes_another_run(tmp_path: Path, change: dict[str, Any]) -> None:
    save(tmp_path / "out", *frames(), manifest())
    assert not is_same_run(tmp_path / "out", manifest(**change))


def test_damaged_missing_or_unhashed_is_never_the_same(tmp_path: Path) -> None:
    assert not is_same_run(tmp_path / "none", manifest())
    in_memory = manifest(inputs=[{"kind": "trades", "path": None, "bytes": None, "sha256": None}])
    save(tmp_path / "memory", *frames(), in_memory)
    assert not is_same_run(tmp_path / "memory", in_memory)
    save(tmp_path / "out", *frames(), manifest())
    (tmp_path / "out" / "buckets.parquet").write_bytes(b"")
    assert not is_same_run(tmp_path / "out", manifest())


# --- manifest values --------------------------------------------------------------------------------------------------


class Origin(enum.Enum):
    GIVEN = "given"


@dataclasses.dataclass(frozen=True)
class Tick:
    size: float
    origin: Origin


def test_values_become_plain_json() -> None:
    values = {
        "tick": Tick(np.float64(0.1), Origin.GIVEN),
        "when": dt.datetime(2025, 10, 10, 21, 13, tzinfo=dt.UTC),
        "ts": np.datetime64("2025-10-10T21:13:00.000000001"),
        "nat": np.datetime64("NaT"),
        "long": dt.timedelta(seconds=90),
        "count": np.int64(7),
        "flag": np.bool_(True),
        "names": {"b", "a"},
        "limit": float("-inf"),
        "nothing": np.float32("nan"),
    }
    assert to_json(values) == {
        "tick": {"size": 0.1, "origin": "given"},
        "when": "2025-10-10T21:13:00+00:00",
        "ts": "2025-10-10T21:13:00.000000001Z",
        "nat": None,
        "long": 90.0,
        "count": 7,
        "flag": True,
        "names": ["a", "b"],
        "limit": "-inf",
        "nothing": None,
    }
    assert type(to_json(np.float64(1.5))) is float


def test_an_object_without_a_plain_form_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot hold a object"):
        to_json({"x": [object()]})


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_like)
def test_every_value_survives_the_file(value: Any) -> None:
    plain = to_json(value)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert to_json(plain) == plain


def test_inputs_are_described_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(b"abc")
    (tmp_path / "a.csv").write_bytes(b"")
    described = describe_inputs({"trades": [tmp_path / "b.csv", str(tmp_path / "a.csv")]})
    assert [(entry["kind"], Path(entry["path"]).name, entry["bytes"]) for entry in described] == [
        ("trades", "b.csv", 3),
        ("trades", "a.csv", 0),
    ]
    assert described[0]["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(FileError, match="cannot be read: No such file"):
        describe_inputs({"trades": [tmp_path / "none.csv"]})
