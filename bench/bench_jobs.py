"""Many symbol-days: what a second worker is worth, and what a year of a venue costs.

    python bench/bench_jobs.py scale     # one worker pinned to one core against two workers on two
    python bench/bench_jobs.py year      # measured rates, and the year computed from them

Both make their tapes themselves (simulated, then tiled over days) and keep them with ``--tapes FOLDER`` for next time.
Rates are of the machine that runs this; run it where nothing else runs.
"""

from __future__ import annotations

import gzip
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import polars as pl
import workloads

import toxmid
from toxmid.convert import convert
from toxmid.schema import Kind

VENUE = "binance-futures"
_DAY_US = 86_400 * 10**6
_FIRST_DAY_US = 1_735_689_600 * 10**6  # 2025-01-01
_SIDES = {1: "buy", -1: "sell", 0: "unknown"}
_BOOK_SIDES = {1: "bid", -1: "ask"}


@click.group()
def main() -> None:
    """Measure runs over many symbol-days."""


@main.command()
@click.option("--symbols", default=6, show_default=True, help="Markets, which run beside each other.")
@click.option("--days", default=12, show_default=True, help="Days of each, which run one after the other.")
@click.option("--rows", default=750_000, show_default=True, help="Rows of trades and quotes of a symbol-day.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--tapes", type=click.Path(path_type=Path), help="Folder to keep the tapes in.")
def scale(symbols: int, days: int, rows: int, repeats: int, tapes: Path | None) -> None:
    """One worker pinned to one core against two workers on two cores."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        raise click.ClickException("this needs Linux and two cores")
    with workloads.folder(tapes) as folder:
        _make_tapes(folder, symbols, days, {"trades": rows // 4, "quotes": rows - rows // 4})
        cores = sorted(os.sched_getaffinity(0))[:2]
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(repeats):  # by turns, so that what else the machine does hits both
            for workers, used in ((1, cores[:1]), (2, cores)):
                seconds[workers].append(_timed_run(folder, workers, used))
    one, two = (statistics.median(seconds[workers]) for workers in (1, 2))
    total = symbols * days * rows
    click.echo(f"{symbols * days} symbol-days of {rows:,} rows; load of the machine {os.getloadavg()[0]:.1f}")
    for workers, median in ((1, one), (2, two)):
        every = ", ".join(f"{s:.1f}" for s in seconds[workers])
        click.echo(f"{workers} worker(s): {median:6.1f} s  {total / median / 1e6:5.2f} M rows/s   ({every})")
    click.echo(f"speed-up {one / two:.2f}")


@main.command()
@click.option("--symbols", default=300, show_default=True, help="Markets of the venue.")
@click.option("--days", default=365, show_default=True)
@click.option("--trades", default=800_000, show_default=True, help="Mean rows of a symbol-day.")
@click.option("--quotes", default=3_000_000, show_default=True)
@click.option("--book", default=15_000_000, show_default=True)
@click.option("--cores", default=32, show_default=True, help="Workers.")
@click.option("--price", default=0.05, show_default=True, help="Price of a core for an hour.")
@click.option("--rows", default=1_000_000, show_default=True, help="Rows of each kind to measure with.")
@click.option("--tapes", type=click.Path(path_type=Path), help="Folder to keep the tapes in.")
def year(
    symbols: int,
    days: int,
    trades: int,
    quotes: int,
    book: int,
    cores: int,
    price: float,
    rows: int,
    tapes: Path | None,
) -> None:
    """What a year of one venue costs, from rates measured now on one core."""
    _pin()
    volume: dict[Kind, int] = {"trades": trades, "quotes": quotes, "book": book}
    with workloads.folder(tapes) as folder:
        _make_tapes(folder, 1, 1, dict.fromkeys(volume, rows))
        rates = {kind: _measure(folder, kind) for kind in volume}
        fixed = _seconds_of_an_empty_day(folder)
    click.echo(f"one core, load of the machine {os.getloadavg()[0]:.1f}; {fixed:.2f} s for a symbol-day without rows")
    click.echo(f"{'kind':8}{'csv.gz, M rows/s':>18}{'Parquet, M rows/s':>19}{'convert, M rows/s':>19}"
               f"{'csv.gz, B/row':>15}{'Parquet, B/row':>16}")  # fmt: skip
    for kind, rate in rates.items():
        click.echo(f"{kind:8}{rate.text / 1e6:18.2f}{rate.parquet / 1e6:19.2f}{rate.convert / 1e6:19.2f}"
                   f"{rate.text_bytes:15.1f}{rate.parquet_bytes:16.1f}")  # fmt: skip
    click.echo()
    for line in year_table(rates, fixed, symbols=symbols, days=days, rows=volume, cores=cores, price=price):
        click.echo(line)


@dataclass(frozen=True)
class Rate:
    """Rows a second of one core, and bytes a row, of one kind of tape."""

    text: float
    parquet: float
    convert: float
    text_bytes: float
    parquet_bytes: float


def year_table(
    rates: dict[Kind, Rate], fixed: float, *, symbols: int, days: int, rows: dict[Kind, int], cores: int, price: float
) -> Iterator[str]:
    """Lines of a table: hours of a core, days on `cores` cores, money and disk for three sets of tapes.

    Parameters
    ----------
    rates : dict
        Measured rates by kind.
    fixed : float
        Seconds of a core that a symbol-day takes without rows: its 86,400 bars.
    symbols, days : int
        Symbol-days.
    rows : dict
        Mean rows of a symbol-day by kind.
    cores : int
        Workers.
    price : float
        Of a core for an hour.
    """
    parts = symbols * days
    yield (f"{symbols} symbols, {days} days; a day of a symbol has "
           + ", ".join(f"{n / 1e6:g} M {kind}" for kind, n in rows.items()))  # fmt: skip
    yield f"{'tapes':26}{'rows, G':>9}{'core hours':>12}{f'hours on {cores}':>13}{'cost':>9}{'disk, TB':>10}"
    for kinds in (("trades",), ("trades", "quotes"), ("trades", "book")):
        for container in ("csv.gz", "Parquet"):
            in_text = container == "csv.gz"
            seconds = sum(rows[kind] / (rates[kind].text if in_text else rates[kind].parquet) for kind in kinds) + fixed
            size = sum(
                rows[kind] * (rates[kind].text_bytes if in_text else rates[kind].parquet_bytes) for kind in kinds
            )
            hours = parts * seconds / 3600
            total = parts * sum(rows[kind] for kind in kinds) / 1e9
            yield (f"{' + '.join(kinds) + ', ' + container:26}{total:9.0f}{hours:12.0f}{hours / cores:13.1f}"
                   f"{hours * price:9.0f}{parts * size / 1e12:10.2f}")  # fmt: skip


# --- measuring -------------------------------------------------------------------------------------------------------


def _timed_run(tapes: Path, workers: int, cores: list[int]) -> float:
    """Seconds of a whole run in a fresh process that may use these cores only."""
    program = (
        "import sys\n"
        "from toxmid.jobs import pair_files, run_jobs\n"
        "run_jobs(pair_files(sys.argv[1]), sys.argv[2], workers=int(sys.argv[3]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(toxmid.__file__).parent.parent)}
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, "-c", program, str(tapes), out, str(workers)]
        begin = time.perf_counter()
        subprocess.run(words, env=environment, check=True, preexec_fn=lambda: os.sched_setaffinity(0, cores))
        return time.perf_counter() - begin


def _pin() -> None:
    """This process and its threads on one core. Threads of polars may be there already: one core serves them all."""
    if hasattr(os, "sched_setaffinity"):
        core = min(os.sched_getaffinity(0))
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def _measure(folder: Path, kind: Kind) -> Rate:
    (tape,) = folder.glob(f"*_{kind}_*.csv.gz") if kind != "book" else folder.glob("*_incremental_book_L2_*.csv.gz")
    parquet = folder / f"{kind}.parquet"
    rows = convert(tape, parquet, kind).rows
    seconds = _best(lambda: convert(tape, parquet, kind))
    text, columns = (
        _best(lambda source=source: toxmid.replay(**{kind: source})) for source in (str(tape), str(parquet))
    )
    sizes = [path.stat().st_size / rows for path in (tape, parquet)]
    parquet.unlink()
    # The bars of the day are counted once for a symbol-day, not with every kind.
    fixed = _seconds_of_an_empty_day(folder)
    return Rate(rows / max(text - fixed, 1e-9), rows / max(columns - fixed, 1e-9), rows / seconds, *sizes)


def _seconds_of_an_empty_day(folder: Path) -> float:
    """A replay of two trades that are a day apart."""
    (tape,) = folder.glob("*_trades_*.csv.gz")
    trades = toxmid.read_trades(tape)
    ends = pl.concat([trades.head(1), trades.tail(1)])
    return _best(lambda: toxmid.replay(trades=ends))


def _best(run: Callable[[], object], repeats: int = 3) -> float:
    """Least processor time of some runs, seconds: on one core this is how long it takes where nothing else runs."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times)


# --- tapes -----------------------------------------------------------------------------------------------------------


def _make_tapes(folder: Path, symbols: int, days: int, rows: dict[Kind, int]) -> None:
    """Tardis files of simulated markets: twenty calm minutes, repeated until the day has its rows."""
    for number in range(symbols):
        wanted = {
            folder / f"{VENUE}_{_type(kind)}_2025-01-{day + 1:02d}_SIM{number}USDT.csv.gz": (kind, day, count)
            for kind, count in rows.items()
            for day in range(days)
        }
        missing = [path for path in wanted if not path.exists()]
        if not missing:
            continue
        tape = toxmid.simulate("calm", seed=number, duration=1200.0, levels=20)
        for path in missing:
            kind, day, count = wanted[path]
            # Repeats compress better than a market does; at level 1 there is about as much to unpack.
            table = _as_tardis(_tiled(getattr(tape, kind), count, day), kind, f"SIM{number}USDT")
            path.write_bytes(gzip.compress(table.write_csv().encode(), 1))


def _type(kind: Kind) -> str:
    return "incremental_book_L2" if kind == "book" else kind


def _tiled(frame: pl.DataFrame, rows: int, day: int) -> pl.DataFrame:
    """Rows of one tape, repeated and spread over a day; times in microseconds."""
    since = (pl.col("ts") - pl.col("ts").min()).dt.total_microseconds()
    frame = frame.with_columns(since=since)
    tiles = -(-rows // frame.height)
    width = _DAY_US // tiles
    stretch = width / (int(frame["since"].max()) + 1)  # type: ignore[arg-type]
    begin = _FIRST_DAY_US + day * _DAY_US
    first_id = day * 10**9
    pieces = [
        frame.with_columns(
            time=(pl.col("since") * stretch).cast(pl.Int64) + (begin + tile * width),
            number=pl.int_range(pl.len()) + (first_id + tile * frame.height),
        )
        for tile in range(tiles)
    ]
    return pl.concat(pieces).head(rows)


def _as_tardis(frame: pl.DataFrame, kind: Kind, symbol: str) -> pl.DataFrame:
    columns: dict[str, str | pl.Expr] = {
        "trades": {"id": "number", "side": pl.col("side").replace_strict(_SIDES), "price": "price", "amount": "size"},
        "quotes": {"ask_amount": "ask_size", "ask_price": "ask", "bid_price": "bid", "bid_amount": "bid_size"},
        "book": {
            "is_snapshot": "snapshot",
            "side": pl.col("side").replace_strict(_BOOK_SIDES),
            "price": "price",
            "amount": "size",
        },
    }[kind]
    return frame.select(
        pl.lit(VENUE).alias("exchange"),
        pl.lit(symbol).alias("symbol"),
        pl.col("time").alias("timestamp"),
        (pl.col("time") + 5000).alias("local_timestamp"),
        **{name: pl.col(column) if isinstance(column, str) else column for name, column in columns.items()},
    )


if __name__ == "__main__":
    main()
