"""From file to metrics: how fast, beside whom, and in how much memory.

    python bench/bench_files.py files                    # a Tardis L2 csv.gz and the same as Parquet, beside others
    python bench/bench_files.py day --rows 100000000     # one huge day in bounded memory

The book is made here (`workloads.write_tardis_book`); ``--tapes FOLDER`` keeps it for next time. Every figure is the
least of some runs, each in a fresh process, all competitors by turns; quote ratios of one run. The converter of
hftbacktest runs in an interpreter of its own: ``--hftbacktest /path/to/python``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import workloads

NAME = "binance-futures_incremental_book_L2_2025-10-10_BTCUSDT"

# Programs of the competitors: each does its work once and prints seconds, seconds of processor time and peak memory.
TIMED = """
import json, resource, sys, time
source, target = sys.argv[1:]
{setup}
begin, used = time.perf_counter(), time.process_time()
{work}
print(json.dumps([time.perf_counter() - begin, time.process_time() - used, memory()]))
"""
MEMORY = """
def memory():
    try:  # the peak of this program; getrusage would count that of the one which started it, too
        status = open("/proc/self/status").read()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
"""
PROGRAMS = {
    "polars.read_csv, nothing else": (
        "import polars as pl\ntypes = {'price': pl.Float64, 'amount': pl.Float64}",
        "pl.read_csv(source, schema_overrides=types)",
    ),
    "toxmid: csv.gz to a canonical table, in pieces": (
        "from toxmid.readers import open_tape",
        "for frame in open_tape(source, 'book').frames(ordered=True): pass",
    ),
    "toxmid: csv.gz to every metric": ("import toxmid", "toxmid.replay(book=source)"),
    "toxmid: csv.gz to every metric, 2 threads more": ("import toxmid", "toxmid.replay(book=source, workers=2)"),
    "toxmid: csv.gz to canonical Parquet": ("from toxmid.convert import convert", "convert(source, target, 'book')"),
    "toxmid: Parquet to every metric": ("import toxmid", "toxmid.replay(book=target)"),
    "toxmid: the engine alone, columns in memory": (
        "from toxmid.readers import open_tape\nfrom toxmid.schema import columns\nfrom toxmid.engine import Engine\n"
        "tape = open_tape(target, 'book')\nrounds = [columns(frame, 'book') for frame in tape.frames()]\n"
        "engine = Engine(instrument=tape.instrument)",
        "for table in rounds: engine.run((None, None, table, *[None] * (len(engine.tally()['used']) - 3)))",
    ),
}  # fmt: skip
CONVERTER = (
    "from hftbacktest.data.utils import tardis",
    "tardis.convert([source], buffer_size=int(target))",
)


@click.group()
def main() -> None:
    """Measure the way from files to metrics."""


@main.command()
@click.option("--rows", default=9_000_000, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--tapes", type=click.Path(path_type=Path), help="Folder to keep the tapes in.")
@click.option("--hftbacktest", "python", help="An interpreter that has hftbacktest.")
def files(rows: int, repeats: int, tapes: Path | None, python: str | None) -> None:
    """A Tardis L2 csv.gz and the same as Parquet, beside polars and hftbacktest."""
    with workloads.folder(tapes) as folder:
        source, target = _tape(folder, rows), folder / f"{NAME}.parquet"
        _timed(sys.executable, *PROGRAMS["toxmid: csv.gz to canonical Parquet"], source, target)
        measured: dict[str, list[tuple[float, float, int]]] = {name: [] for name in PROGRAMS}
        for _ in range(repeats):  # by turns, so that what else the machine does hits all
            for name, program in PROGRAMS.items():
                measured[name].append(_timed(sys.executable, *program, source, target))
        if python is not None:
            room = Path(str(rows + 10_000))
            measured["hftbacktest: its converter alone"] = [_timed(python, *CONVERTER, source, room)]
    _print(measured, rows)


@main.command()
@click.option("--rows", default=100_000_000, show_default=True)
@click.option("--tapes", type=click.Path(path_type=Path), help="Folder to keep the tapes in; 10 bytes a row.")
def day(rows: int, tapes: Path | None) -> None:
    """One huge day, from csv.gz and from Parquet: rows a second and peak memory."""
    left_out = ("polars", "in memory", "threads")
    names = [name for name in PROGRAMS if not any(word in name for word in left_out)]
    with workloads.folder(tapes) as folder:
        source, target = _tape(folder, rows, level=1), folder / f"{NAME}.parquet"
        _print({name: [_timed(sys.executable, *PROGRAMS[name], source, target)] for name in names}, rows)


def _print(measured: dict[str, list[tuple[float, float, int]]], rows: int) -> None:
    click.echo(f"{rows:,} rows; load of the machine {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    click.echo(f"{'':50}{'s':>8}{'M rows/s':>10}{'cores used':>12}{'peak MB':>9}")
    for name, runs in measured.items():
        seconds, used, _ = min(runs)
        peak = max(peak for *_, peak in runs)
        click.echo(f"{name:50}{seconds:8.2f}{rows / seconds / 1e6:10.2f}{used / seconds:12.2f}{peak / 1e6:9.0f}")


def _timed(python: str, setup: str, work: str, source: Path, target: Path) -> tuple[float, float, int]:
    """Seconds, seconds of processor time and peak memory of a program in a process of its own."""
    program = MEMORY + TIMED.format(setup=setup, work=work)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    words = [python, "-c", program, str(source), str(target)]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    seconds, used, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, used, memory


def _tape(folder: Path, rows: int, level: int = 6) -> Path:
    path = folder / f"{NAME}.csv.gz"
    if not path.exists():
        workloads.write_tardis_book(path, rows, level=level)
    return path


if __name__ == "__main__":
    main()
