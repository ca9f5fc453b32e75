"""Files whole or not at all, and locks that die with their holders."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from toxmid import output
from toxmid.disk import PARTIAL, exclusive, naming, whole
from toxmid.errors import DataError, FileError


def test_a_whole_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    for text in ("one", "two"):
        with whole(path) as partial:
            assert partial.parent == path.parent
            partial.write_text(text, encoding="ascii")
        assert path.read_text(encoding="ascii") == text
    assert [file.name for file in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, "full"), ValueError("bug"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, problem: BaseException) -> None:
    path = tmp_path / "file"
    path.write_text("old", encoding="ascii")

    def write() -> None:
        with whole(path) as partial:
            partial.write_text("new", encoding="ascii")
            raise problem

    with pytest.raises((FileError, ValueError, KeyboardInterrupt)):
        write()
    assert path.read_text(encoding="ascii") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_what_the_system_says_is_said_of_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(FileError, match=f"x: cannot be read: {os.strerror(errno.EACCES)}"),
        naming(Path("x"), "cannot be read"),
    ):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with pytest.raises(DataError, match="rows"), naming(Path("x"), "cannot be read"):
        raise DataError("rows")
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(FileError, match="cannot be locked"), exclusive(tmp_path / "file" / "lock"):
        pass


def test_partial_files_of_outputs_have_the_same_mark() -> None:
    assert output._PARTIAL == PARTIAL


def test_one_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    seen: list[int] = []

    def work() -> None:
        for _ in range(20):
            with exclusive(tmp_path / "lock"):
                inside.append(1)
                seen.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {1}


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from toxmid.disk import exclusive
        with exclusive(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(600)
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(output.__file__).parent.parent)}
    words = [sys.executable, "-c", program, str(tmp_path / "lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        taken = threading.Event()

        def take() -> None:
            with exclusive(tmp_path / "lock"):
                taken.set()

        thread = threading.Thread(target=take)
        thread.start()
        assert not taken.wait(0.1)
        holder.kill()
        assert taken.wait(60)
        thread.join()
