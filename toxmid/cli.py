"""The command line: arguments in, calls of the library, words and exit codes out.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failure, 2 usage, 3 bad data, 4 done in part,
130 interrupted. What is wrong with a file is said in one line.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import re
import shutil
import sys
import tomllib
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from toxmid.errors import DataError, FileError, NotEnoughDataError, ParameterError, ToxmidError
from toxmid.schema import KINDS

__all__ = ["main"]

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
DONE, FAILED, USAGE, BAD_DATA, PARTLY, INTERRUPTED = 0, 1, 2, 3, 4, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="toxmid", prog_name="toxmid")
def cli() -> None:
    """In a toxic market, where is the market maker's own mid?

    Replays tick and order-book data, measures flow toxicity (VPIN), spread widening and price impact per unit of
    volume, and infers the mid that the maker herself believes in.
    """


_FILES = click.Path(path_type=str)
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress; what is wrong with a file is still said.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Say more; a traceback where something fails.")
_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
# What every command that reads files takes.
_from = click.option("--from", "start", metavar="T", help="Only from this time on (ISO 8601, UTC).")
_to = click.option("--to", "end", metavar="T", help="Only up to, not including, this time.")
_symbol = click.option("--symbol", help="Which instrument, where a file holds several.")
_format = click.option("--format", help="Format or family of formats, or a TOML file that describes delimited text.")
_formats = click.option(
    "--format", "formats", multiple=True, metavar="[INPUT=]FORMAT",
    help="Format or family of formats, or a TOML file that describes delimited text; with INPUT= (trades=MAP.toml) of "
    "that input only. May be repeated.",
)  # fmt: skip
_sort = click.option("--sort", is_flag=True, help="Put rows in order of time first.")
_allow_partial = click.option(
    "--allow-partial", is_flag=True, help="Accept files whose last line is cut; it is dropped and counted."
)


def _reading(command: Any) -> Any:
    """Options of a command that reads tapes without replaying them."""
    for option in (_allow_partial, _sort, _symbol, _to, _from):
        command = option(command)
    return command


def _reading_options(given: dict[str, Any]) -> dict[str, Any]:
    """The same as arguments of the readers."""
    return {**{name: given[name] for name in ("start", "end", "sort", "allow_partial")},
            "instrument": _of_symbol(None, given["symbol"])}  # fmt: skip


_find_grids = click.option(
    "--find-grids", is_flag=True,
    help="Look through the files for tick and lot first ('toxmid convert' has noted them in its files).",
)  # fmt: skip


@cli.command(short_help="Simulate a cascade, replay it, write a report.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("toxmid-demo"), show_default=True,
              help="Directory to write.")
@click.option("--scenario", type=click.Choice(["calm", "flush", "news", "mixed", "info"]), default="flush",
              show_default=True, help="What happens in the market.")
@click.option("--seed", type=click.IntRange(min=0), default=9, show_default=True, help="Which market it happens in.")
@_quiet
@_verbose
def demo(out: Path, scenario: str, seed: int, quiet: bool, verbose: bool) -> None:
    """Simulate a liquidation cascade with a known maker's mid, replay it, and write a report."""
    from toxmid.demo import run_demo

    del verbose
    click.echo(run_demo(out, scenario, seed, progress=not quiet))


@cli.command(short_help="Say what files are.")
@click.argument("files", nargs=-1, required=True, type=_FILES)
@_symbol
@_format
@_allow_partial
@_json
@_verbose
def inspect(
    files: Sequence[str], symbol: str | None, format: str | None, allow_partial: bool, as_json: bool, verbose: bool
) -> None:
    """Say what files are: format, instrument, rows, period, clock, units, problems, and which belong together."""
    from toxmid.inspect import inspect_files, pair_inspected

    options: dict[str, Any] = {"format": format, "allow_partial": allow_partial}
    inspections = inspect_files(list(files), instrument=_of_symbol(None, symbol), **options)
    pairing = pair_inspected(inspections, symbol=symbol, **options)
    if as_json:
        problems = {"pairing_problems": list(pairing.problems) if len(inspections) > 1 else []}
        facts = [
            inspection.to_dict() | {"used_for": pairing.of(inspection.path)} | problems for inspection in inspections
        ]
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        together = [text] if len(inspections) > 1 and (text := pairing.to_text()) else []
        click.echo("\n\n".join([*(inspection.to_text(verbose=verbose) for inspection in inspections), *together]))
    if any(inspection.failed for inspection in inspections):
        sys.exit(BAD_DATA)


@cli.command(short_help="Replay tapes into a directory.")
@click.argument("tapes", nargs=-1, type=_FILES)
@click.option("--trades", multiple=True, type=_FILES, help="Files, globs or directories of trades. May be repeated.")
@click.option("--book", multiple=True, type=_FILES, help="L2 book updates or snapshots.")
@click.option("--quotes", multiple=True, type=_FILES, help="Best bids and asks.")
@click.option("--liquidations", multiple=True, type=_FILES, help="A liquidation feed.")
@click.option("--mark", multiple=True, type=_FILES, help="Mark prices.")
@click.option("--reference", multiple=True, metavar="[NAME=]PATH",
              help="Trades of another venue of the same coin; NAME= tells several venues apart.")
@click.option("--open-interest", multiple=True, type=_FILES, help="Open interest.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--from", "start", metavar="T", help="Replay from this time on (ISO 8601, UTC).")
@click.option("--to", "end", metavar="T", help="Replay up to, not including, this time.")
@click.option("--state-in", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Go on from the state of an earlier replay.")
@click.option("--state-out", type=click.Path(dir_okay=False, path_type=Path),
              help="Keep the state, for a replay that goes on; the last bar stays open.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", default=1, show_default=True,
              help="More than one: files are decoded beside the computation.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="TOML file with tables [params] and [instrument].")
@_symbol
@_formats
@_find_grids
@click.option("--dask", metavar="ADDRESS", help="Run the days on this Dask cluster (extra 'dask').")
@click.option("--by-day", is_flag=True,
              help="Keep every finished day beside OUT, so that a killed run goes on there; the result is the same.")
@click.option("--coefficients", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Weights that 'toxmid fit' wrote.")
@_sort
@_allow_partial
@click.option("--dry-run", is_flag=True, help="Only say what would be replayed, and how.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest instead of a summary.")
@_quiet
@_verbose
def replay(
    tapes: Sequence[str],
    out: Path,
    start: str | None,
    end: str | None,
    state_in: Path | None,
    state_out: Path | None,
    workers: int,
    symbol: str | None,
    formats: Sequence[str],
    find_grids: bool,
    dask: str | None,
    by_day: bool,
    config: Path | None,
    coefficients: Path | None,
    sort: bool,
    allow_partial: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **inputs: Sequence[str],
) -> None:
    """Replay tapes: bars, volume buckets and episodes, with the maker's implied mid, into a directory.

    TAPES are files, globs or folders of one market; what each file is, it says itself. Files of a kind that is named by
    an option are taken from there only.
    """
    from toxmid import output
    from toxmid.replay import plan
    from toxmid.replay import replay as run

    del verbose
    params, instrument = _configuration(config)
    if coefficients is not None:
        from toxmid.estimator import FitResult

        params = FitResult.load(coefficients).apply(params)
    format = _by_input(formats)
    sources: dict[str, Any] = _paired(tapes, format, symbol, allow_partial) if tapes else {}
    sources |= {name: list(files) for name, files in inputs.items() if files}
    if "reference" in sources:
        sources["reference"] = _venues(sources["reference"])
    if not {"trades", "book", "quotes"} & sources.keys():
        raise click.UsageError("give TAPES, or at least one of --trades, --book, --quotes")
    instrument = _of_symbol(instrument, symbol)
    if find_grids:
        instrument = _with_grids(sources, instrument, format=format, allow_partial=allow_partial)
    if (dask is not None or by_day) and (state_in or state_out):
        raise click.UsageError("--dask and --by-day keep states beside the parts; leave out --state-in and --state-out")
    if (dask is not None or by_day) and not dry_run:
        options = {"start": start, "end": end, "sort": sort, "allow_partial": allow_partial, "format": format}
        result, parts = _by_day(sources, out, dask, params, instrument, options, symbol, quiet)
        result.save(out, overwrite=True)
        _note(f"wrote {out}", quiet)
        if dask is None:
            shutil.rmtree(parts)  # the days are in the result now
        else:
            _note(f"parts are in {parts}", quiet)
        click.echo(json.dumps(result.manifest, indent=2, ensure_ascii=False) if as_json else result.summary())
        return
    arguments: dict[str, Any] = {
        **sources, "params": params, "instrument": instrument, "start": start, "end": end,
        "state": None if state_in is None else _state_of(state_in), "finish": state_out is None, "sort": sort,
        "allow_partial": allow_partial, "format": format,
    }  # fmt: skip
    if dry_run:
        click.echo(json.dumps(plan(**arguments), indent=2, ensure_ascii=False))
        return
    arguments["workers"] = workers
    if state_out is None and output.is_output(out):
        planned = plan(**{name: value for name, value in arguments.items() if name != "workers"})
        if output.is_same_run(out, planned):
            _note(f"{out} already holds this run: nothing to do", quiet)
            _show(out, as_json)
            return
    result = run(**arguments, progress=not quiet)
    result.save(out, overwrite=True)
    if state_out is not None:
        output.write_whole(state_out, result.state)
    _note(f"wrote {out}", quiet)
    click.echo(json.dumps(result.manifest, indent=2, ensure_ascii=False) if as_json else result.summary())


def _state_of(path: Path) -> bytes:
    """The state in a file, after a look whether it is one: what is wrong with it shall be said of the file."""
    from toxmid.engine import Engine

    state = path.read_bytes()
    try:
        Engine.restore(state)
    except FileError as error:
        raise FileError(error.message, file=str(path), expected="what --state-out wrote, with this version") from None
    return state


def _by_input(entries: Sequence[str], *more: str) -> str | dict[str, str] | None:
    """Formats as `toxmid.replay` takes them: one for all inputs, or by input."""
    from toxmid.merging import INPUTS

    inputs = (*INPUTS, *more)
    named: dict[str, str] = {}
    for entry in entries:
        name, equals, format = entry.partition("=")
        name, format = (name, format) if equals and name in inputs else ("", entry)
        if name in named:
            raise click.BadParameter(f"two formats for {name or 'all inputs'}", param_hint="--format")
        named[name] = format
    if "" not in named:
        return named or None
    general = named.pop("")
    return dict.fromkeys(inputs, general) | named if named else general


def _with_grids(sources: dict[str, Any], instrument: Any, **options: Any) -> Any:
    """What is known of the instrument, with the tick and lot that its files show."""
    from toxmid.inspect import find_instrument

    own: dict[Any, Any] = {kind: sources[kind] for kind in ("trades", "quotes", "book") if kind in sources}
    return find_instrument(own, instrument=instrument, **options)


def _of_symbol(instrument: Any, symbol: str | None) -> Any:
    """What is known of the instrument, and which of several it is."""
    from toxmid.instrument import Instrument

    return instrument if symbol is None else (instrument or Instrument()).replace(symbol=symbol)


def _venues(entries: Sequence[str]) -> list[str] | dict[str, list[str]]:
    """Files of other venues by name, where any has one."""
    named: dict[str, list[str]] = {}
    for entry in entries:
        match = None if Path(entry).exists() else re.fullmatch(r"([A-Za-z0-9_.-]+)=(.+)", entry)
        named.setdefault(match[1] if match else "reference", []).append(match[2] if match else entry)
    return named["reference"] if set(named) == {"reference"} else named


@cli.command(short_help="Write the report of a replay.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("-o", "--output", "path", type=click.Path(dir_okay=False, path_type=Path),
              help="File to write; report.html inside the directory when left out.")
@click.option("--evaluation", "evaluations", multiple=True, type=click.Path(path_type=Path),
              help="Show this evaluation too: what 'toxmid evaluate ... --out' wrote. May be repeated.")
@_verbose
def report(directory: Path, path: Path | None, evaluations: Sequence[Path], verbose: bool) -> None:
    """Write the report of a replay: one HTML file that needs nothing else."""
    from toxmid.report import report_directory

    del verbose
    sections = []
    if evaluations:
        from toxmid.evaluate import Evaluation

        sections = [Evaluation.load(evaluation).section() for evaluation in evaluations]
    click.echo(report_directory(directory, path, sections=sections))


@cli.command(short_help="Price impact per unit of volume of a replay.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--bar", default="10s", show_default=True, help="Length of the bars regressed on.")
@_json
@_verbose
def impact(directory: Path, bar: str, as_json: bool, verbose: bool) -> None:
    """Price impact per unit of volume of a replay, in calm and under stress, with HAC errors."""
    from toxmid.impact import impact as estimate
    from toxmid.replay import Replay

    del verbose
    _show_estimates(estimate(Replay.load(directory), bar=bar), as_json)


@cli.command(short_help="What the mid did after trades.")
@click.option("--trades", multiple=True, required=True, type=_FILES, help="Files, globs or directories of trades.")
@click.option("--quotes", multiple=True, required=True, type=_FILES, help="Best bids and asks.")
@click.option("--liquidations", multiple=True, type=_FILES, help="A liquidation feed: forced trades against the rest.")
@click.option("--horizon", "horizons", multiple=True, default=("1s", "5s", "30s", "60s", "300s"), show_default=True,
              help="Time after the trade. May be repeated.")
@_reading
@_formats
@_json
@_verbose
def markouts(
    horizons: Sequence[str], formats: Sequence[str], as_json: bool, verbose: bool, **options: Any
) -> None:
    """What the mid did after taker orders, by side and horizon: the taker's gain, the maker's loss."""
    from toxmid.markouts import markouts as curves
    from toxmid.merging import formats_by_input
    from toxmid.readers import read_liquidations, read_quotes, read_trades

    del verbose
    named = formats_by_input(_by_input(formats))
    sources = {kind: list(options.pop(kind)) for kind in ("trades", "quotes", "liquidations")}
    reading = _reading_options(options)
    readers = {"trades": read_trades, "quotes": read_quotes, "liquidations": read_liquidations}
    tapes: dict[str, Any] = {
        kind: readers[kind](files, format=named.get(kind), **reading) for kind, files in sources.items() if files
    }
    _show_table(curves(**tapes, horizons=horizons), as_json)


@cli.command(short_help="What half a spread is made of.")
@click.option("--trades", multiple=True, required=True, type=_FILES, help="Files, globs or directories of trades.")
@click.option("--model", type=click.Choice(["mrr", "glosten-harris"]), default="mrr", show_default=True,
              help="By the side of orders alone, or by side and size.")
@_reading
@_format
@_json
@_verbose
def components(
    trades: Sequence[str], model: str, format: str | None, as_json: bool, verbose: bool, **options: Any
) -> None:
    """How much of the half spread that takers pay stays in the price, and how much comes back."""
    from toxmid.components import glosten_harris, mrr
    from toxmid.readers import read_trades

    del verbose
    estimate = mrr if model == "mrr" else glosten_harris
    _show_estimates(estimate(read_trades(list(trades), format=format, **_reading_options(options))), as_json)


@cli.command(short_help="How liquidations breed liquidations.")
@click.option("--liquidations", multiple=True, required=True, type=_FILES, help="A liquidation feed.")
@click.option("--exponentials", type=click.IntRange(1, 2), default=1, show_default=True, help="Kernels.")
@_reading
@_format
@_json
@_verbose
def hawkes(
    liquidations: Sequence[str], exponentials: int, format: str | None, as_json: bool, verbose: bool, **options: Any
) -> None:
    """How liquidations breed liquidations: a Hawkes process by maximum likelihood."""
    from toxmid.hawkes import hawkes as fit_process
    from toxmid.readers import read_liquidations

    del verbose
    reading = _reading_options(options)
    feed = read_liquidations(list(liquidations), format=format, **reading)
    _show_estimates(
        fit_process(feed, exponentials=exponentials, start=reading["start"], end=reading["end"]), as_json
    )


@cli.command(short_help="Learn the weights of the implied mid.")
@click.argument("directories", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", "path", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="File of coefficients to write.")
@click.option("--horizon", default="300s", show_default=True, help="How much later the mid is taken to be right.")
@click.option("--averaging", default="60s", show_default=True, help="Time around that moment to average the mid over.")
@click.option("--apart", is_flag=True, help="Events of several replays at one time have nothing to do with each other.")
@click.option("--min-events", type=click.IntRange(min=3), default=5, show_default=True, help="Fewest events.")
@click.option("--force", is_flag=True, help="Use what was learnt even where cross-validation does not favour it.")
@_quiet
@_verbose
def fit(
    directories: Sequence[Path],
    path: Path,
    horizon: str,
    averaging: str,
    apart: bool,
    min_events: int,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Learn the weights of the implied mid from past replays; use them with 'replay --coefficients FILE'."""
    from toxmid.estimator import fit as learn

    del verbose
    result = learn(
        directories, horizon=horizon, averaging=averaging, simultaneous="apart" if apart else "one",
        min_events=min_events, force=force,
    )  # fmt: skip
    result.save(path)
    for warning in result.warnings:
        _note(f"note: {warning}", quiet)
    _note(f"wrote {path}", quiet)
    click.echo(result.summary().as_text())


@cli.command(short_help="Write tapes as canonical Parquet.")
@click.argument("files", nargs=-1, required=True, type=_FILES)
@click.option("--kind", required=True, type=click.Choice(KINDS), help="What to read from the files.")
@click.option("-o", "--output", "path", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="Parquet file to write.")
@_reading
@_format
@_verbose
def convert(
    files: Sequence[str], kind: Any, format: str | None, path: Path, verbose: bool, **options: Any
) -> None:
    """Write tapes as canonical Parquet: sorted, compressed, in row groups sized for replay."""
    from toxmid.convert import convert as write

    del verbose
    written = write(list(files), path, kind, format=format, **_reading_options(options))
    grids = "".join(f", {name} {step:.12g}" for name, step in written.grids.items())
    click.echo(f"{written.path}: {written.rows:,} rows, {written.bytes:,} bytes{grids}")


@cli.group(short_help="Download tapes.")
def fetch() -> None:
    """Download tapes: checksums verified, resumed where they broke off, nothing fetched twice."""


_DAYS = [
    click.option("--symbol", "symbols", multiple=True, required=True, help="As the venue writes it. May be repeated."),
    click.option("--from", "start", required=True, metavar="DAY", help="First day."),
    click.option("--to", "end", metavar="DAY", help="Day after the last one; one day when left out."),
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to fetch into."),
]


def _days(command: Any) -> Any:
    for option in reversed(_DAYS):
        command = option(command)
    return command


@fetch.command()
@click.option("--market", type=click.Choice(["spot", "um", "cm"]), required=True, help="Spot, USD-M, COIN-M.")
@click.option("--kind", required=True,
              help="aggTrades, trades; of futures bookTicker, bookDepth, metrics, fundingRate; of COIN-M "
              "liquidationSnapshot.")
@click.option("--period", type=click.Choice(["daily", "monthly"]),
              help="Files by day or by month; by day when left out, if they are there so.")
@_days
@_quiet
@_verbose
def binance(
    market: Any,
    kind: str,
    period: Any,
    symbols: Sequence[str],
    start: str,
    end: str | None,
    out: Path,
    quiet: bool,
    verbose: bool,
) -> None:
    """From the public archive of Binance."""
    from toxmid.fetch import fetch_binance

    del verbose
    fetched = fetch_binance(
        out, market=market, kind=kind, symbols=list(symbols), start=start, end=end, period=period, progress=not quiet
    )
    _show_fetched(fetched)
    if any(file.status == "missing" for file in fetched):
        sys.exit(PARTLY)


@fetch.command(short_help="From Tardis.dev.")
@click.option("--exchange", required=True, help="As the vendor writes it, binance-futures.")
@click.option("--type", "types", multiple=True, required=True, help="Data type. May be repeated.")
@_days
@_verbose
def tardis(
    exchange: str,
    types: Sequence[str],
    symbols: Sequence[str],
    start: str,
    end: str | None,
    out: Path,
    verbose: bool,
) -> None:
    """From Tardis.dev (extra 'tardis'; key in TARDIS_API_KEY, the first day of a month is free)."""
    from toxmid.fetch import fetch_tardis

    del verbose
    fetched = fetch_tardis(
        out, exchange=exchange, data_types=list(types), symbols=list(symbols), start=start, end=end
    )
    _show_fetched(fetched)


@cli.command(short_help="Replay many symbol-days.")
@click.argument("sources", nargs=-1, required=True, type=_FILES)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", default=1, show_default=True, help="Processes.")
@click.option("--dask", metavar="ADDRESS", help="Run on this Dask cluster instead (extra 'dask').")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="TOML file with tables [params] and [instrument].")
@_from
@_to
@_symbol
@_formats
@_find_grids
@_sort
@_allow_partial
@click.option("--keep-going", is_flag=True, help="A bad file ends its market at that day, not the whole run.")
@_quiet
@_verbose
def batch(
    sources: Sequence[str],
    out: Path,
    workers: int,
    dask: str | None,
    config: Path | None,
    symbol: str | None,
    formats: Sequence[str],
    find_grids: bool,
    keep_going: bool,
    quiet: bool,
    verbose: bool,
    **reading: Any,
) -> None:
    """Replay many symbol-days: files are paired by market and day, state goes on from day to day."""
    from toxmid.jobs import pair_files, run_jobs, summarise

    del verbose
    params, instrument = _configuration(config)
    format = _by_input(formats)
    instrument = _of_symbol(instrument, symbol)
    leniency = {"keep_bad": keep_going, "allow_partial": reading["allow_partial"]}
    jobs = pair_files(list(sources), formats=format, symbol=symbol, **leniency)
    instruments = {job.market: instrument for job in jobs if instrument is not None}
    if find_grids:
        options = {"format": format, "allow_partial": reading["allow_partial"]}
        instruments = {
            market: _with_grids(_sources_of(jobs, market), instrument, **options)
            for market in dict.fromkeys(job.market for job in jobs)
        }
    parts = run_jobs(
        jobs, out, workers=workers, params=params, dask=dask, format=format, progress=not quiet,
        instruments=instruments, on_error="keep" if keep_going else "raise", **reading,
    )  # fmt: skip
    click.echo(summarise(parts))
    if any(part.error is not None for part in parts):
        sys.exit(PARTLY)


@cli.group()
def evaluate() -> None:
    """The honest table: every estimator and rival, side by side.

    Shows what it found in words and tables; --out keeps it, as Parquet, for 'toxmid report --evaluation'.
    """


_page = click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write it as a page, too.")
_saved = click.option("--out", type=click.Path(file_okay=False, path_type=Path),
                      help="Directory to write the tables to, as Parquet, with evaluation.json.")  # fmt: skip
_configured = click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                           help="TOML file with tables [params] and [instrument].")  # fmt: skip


def _tell(evaluation: Any, out: Path | None, html: Path | None) -> None:
    if out is not None:
        evaluation.save(out)
    if html is not None:
        evaluation.to_html(html)
    click.echo(evaluation.summary())


@evaluate.command()
@click.option("--seeds", default="100000:100050", show_default=True, metavar="A:B", help="Seeds from A to before B.")
@click.option("--scenario", "scenarios", multiple=True, type=click.Choice(["calm", "flush", "news", "mixed", "info"]),
              help="What happens in the markets; all when left out. May be repeated.")
@click.option("--inputs", multiple=True, default=["quotes+liquidations"], show_default=True, metavar="WORDS",
              help="What the estimators get beside trades, joined by '+': quotes, book, liquidations or throttled (one "
              "record per second), mark, and other venues of the coin: clean, mixed, toxic. Given several times, or as "
              "'ladder': a table of what every further input is worth.")
@click.option("--book", type=click.Choice(["shallow", "deep", "sym"]), default="shallow", show_default=True,
              help="What a sweep leaves behind: little, a hole that stays, or makers who pull both sides.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", default=1, show_default=True, help="Processes.")
@_configured
@_saved
@_page
@_quiet
@_verbose
def simulated(
    seeds: str,
    scenarios: Sequence[Any],
    inputs: Sequence[str],
    book: Any,
    workers: int,
    config: Path | None,
    out: Path | None,
    html: Path | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Against the hidden mid of simulated markets."""
    from toxmid.evaluate import LADDER, Inputs, evaluate_inputs, evaluate_simulated
    from toxmid.simulate import SCENARIOS

    del verbose
    options: dict[str, Any] = {
        "book": book, "params": _configuration(config)[0], "workers": workers, "progress": not quiet,
    }  # fmt: skip
    rungs = LADDER if list(inputs) == ["ladder"] else [Inputs.parse(words) for words in inputs]
    if len(rungs) > 1:
        _tell(evaluate_inputs(_seeds(seeds), scenarios or SCENARIOS, rungs, **options), out, html)
        return
    given = rungs[0]
    if given.quotes and given.book:
        raise click.BadParameter("quotes or book, unless several are compared", param_hint="--inputs")
    touch: Any = "quotes" if given.quotes else "book" if given.book else "trades"
    result = evaluate_simulated(
        _seeds(seeds), scenarios or SCENARIOS, inputs=touch, feed=given.feed, mark=given.mark, references=given.venues,
        **options,
    )  # fmt: skip
    _tell(result, out, html)


@evaluate.command()
@click.option("--trades", multiple=True, required=True, type=_FILES, help="The tape to judge on.")
@click.option("--truth", multiple=True, required=True, type=_FILES, help="Trades of the venue that serves as truth.")
@click.option("--window", "windows", multiple=True, required=True, metavar="NAME=FROM/TO",
              help="What to judge. May be repeated.")
@click.option("--basis", required=True, metavar="FROM/TO", help="A calm time, for the basis between the venues.")
@click.option("--quotes", multiple=True, type=_FILES, help="Best bids and asks of the tape's market.")
@click.option("--book", multiple=True, type=_FILES, help="L2 book updates or snapshots of it.")
@click.option("--liquidations", multiple=True, type=_FILES, help="Its liquidation feed.")
@click.option("--mark", multiple=True, type=_FILES, help="Its mark prices.")
@click.option("--reference", multiple=True, metavar="[NAME=]PATH",
              help="Trades of yet another venue, for the estimator; NAME= tells several venues apart.")
@click.option("--split-reference", is_flag=True,
              help="Every second trade of the truth's venue is a reference for the estimator; the others are truth.")
@_symbol
@_formats
@_find_grids
@_configured
@_saved
@_page
@_verbose
def referenced(
    trades: Sequence[str],
    truth: Sequence[str],
    windows: Sequence[str],
    basis: str,
    split_reference: bool,
    symbol: str | None,
    formats: Sequence[str],
    find_grids: bool,
    config: Path | None,
    out: Path | None,
    html: Path | None,
    verbose: bool,
    **inputs: Sequence[str],
) -> None:
    """On a real tape, another venue's price being the truth."""
    from toxmid.evaluate import evaluate_referenced

    del verbose
    params, instrument = _configuration(config)
    named = {name: _period(period) for name, _, period in (window.partition("=") for window in windows)}
    given: dict[str, Any] = {name: list(files) for name, files in inputs.items() if files}
    if "reference" in given:
        given["reference"] = _venues(given["reference"])
    format = _by_input(formats, "truth")
    instrument = _of_symbol(instrument, symbol)
    if find_grids:
        own = {"trades": list(trades), **given}
        instrument = _with_grids(own, instrument, format=_by_input([f for f in formats if not f.startswith("truth=")]))
    result = evaluate_referenced(
        list(trades), list(truth), named, _period(basis), split_reference=split_reference, params=params,
        instrument=instrument, format=format, **given,
    )  # fmt: skip
    _tell(result, out, html)


@evaluate.command(short_help="On real tapes, by what the quoted mid did later.")
@click.argument("directories", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--horizon", "horizons", multiple=True, type=float, default=[60, 300, 1800], show_default=True,
              metavar="SECONDS", help="How much later. May be repeated.")
@click.option("--step", default="5s", show_default=True, help="Distance of the rows that are used.")
@click.option("--placebos", is_flag=True,
              help="Replay the files again with liquidations moved; they must lie where they lay.")
@_formats
@_saved
@_page
@_verbose
def forecasts(
    directories: Sequence[Path],
    horizons: Sequence[float],
    step: str,
    placebos: bool,
    formats: Sequence[str],
    out: Path | None,
    html: Path | None,
    verbose: bool,
) -> None:
    """On real tapes without a truth: by what the quoted mid did later."""
    from toxmid.evaluate import evaluate_forecasts
    from toxmid.replay import Replay

    del verbose
    replays = [Replay.load(directory) for directory in directories]
    made_from = zip(replays, directories, strict=True)
    format = {"format": _by_input(formats)}
    tapes = [_files_of(run.manifest, directory) | format for run, directory in made_from] if placebos else None
    _tell(evaluate_forecasts(replays, horizons=horizons, step=step, tapes=tapes), out, html)


# --- helpers ---------------------------------------------------------------------------------------------------------


def _paired(
    tapes: Sequence[str], format: str | dict[str, str] | None, symbol: str | None, allow_partial: bool
) -> dict[str, list[str]]:
    """Files of one market by kind, day after day."""
    from toxmid.pairing import pair_files

    jobs = pair_files(list(tapes), formats=format, symbol=symbol, allow_partial=allow_partial)
    return _sources_of(jobs, _one_market(jobs))


def _sources_of(jobs: Sequence[Any], market: str) -> dict[str, list[str]]:
    sources: dict[str, list[str]] = {}
    for job in jobs:
        for kind, files in job.files.items() if job.market == market else ():
            sources.setdefault(kind, []).extend(map(str, files))
    return {kind: list(dict.fromkeys(files)) for kind, files in sources.items()}  # two may need the same third one


def _one_market(jobs: Sequence[Any]) -> str:
    markets = sorted({job.market for job in jobs})
    if len(markets) != 1:
        listed = f" ({', '.join(markets[:5])})" if markets else ", none of them with trades, quotes or a book"
        raise click.UsageError(f"files of {len(markets)} markets{listed}: 'toxmid batch' replays several")
    return str(markets[0])


def _show_estimates(result: Any, as_json: bool) -> None:
    """A result in the manner of statsmodels: its table, or its figures by name."""
    from toxmid.output import to_json

    if not as_json:
        click.echo(result.summary().as_text())
        return
    figures = {
        field.name: getattr(result, field.name)
        for field in dataclasses.fields(result)
        if field.name not in ("fit", "values", "covariance", "facts", "title", "matrix")
    }
    estimates = {"params": dict(result.params), "bse": dict(result.bse)}
    click.echo(json.dumps(to_json(estimates | figures), indent=2, ensure_ascii=False))


def _show_table(table: Any, as_json: bool) -> None:
    import polars as pl

    if as_json:
        click.echo(table.write_json())
        return
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_formatting="NOTHING", tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True, tbl_width_chars=200, float_precision=3,
    ):  # fmt: skip
        click.echo(str(table))


def _by_day(
    sources: dict[str, Any],
    out: Path,
    dask: str | None,
    params: Any,
    instrument: Any,
    options: dict[str, Any],
    symbol: str | None,
    quiet: bool,
) -> tuple[Any, Path]:
    """Replay the days of one market one after the other, here or on a Dask cluster, and put their parts together."""
    from toxmid.jobs import load_market, pair_files, run_jobs

    elsewhere = sources.pop("reference", None)
    named = {f"reference:{name}": files for name, files in elsewhere.items()} if isinstance(elsewhere, dict) else {}
    paired = {**sources, **(named or ({} if elsewhere is None else {"reference": elsewhere}))}
    jobs = pair_files(paired, formats=options["format"], symbol=symbol, allow_partial=options["allow_partial"])
    market = _one_market(jobs)
    folder = out.with_name(f"{out.name}.parts")
    instruments = None if instrument is None else {market: instrument}
    run_jobs(jobs, folder, dask=dask, params=params, instruments=instruments, progress=not quiet, **options)
    return load_market(folder, market), folder


def _show_fetched(fetched: Sequence[Any]) -> None:
    for file in fetched:
        click.echo(f"{file.status:<8} {file.path}")


def _seeds(text: str) -> range:
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise click.BadParameter("two whole numbers, the smaller first: A:B", param_hint="--seeds")
    return range(int(first), int(last))


def _files_of(manifest: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The files that an output was made from, by kind; those of several other venues by venue."""
    files: dict[str, Any] = {}
    for entry in manifest["inputs"]:
        if entry["path"] is None or not Path(entry["path"]).exists():
            raise FileError("made from what is no longer there", file=str(directory), found=entry["path"] or "a table")
        group = files.setdefault(entry["kind"], {}) if "venue" in entry else files
        group.setdefault(entry.get("venue", entry["kind"]), []).append(entry["path"])
    return files


def _period(text: str) -> tuple[str, str]:
    start, slash, end = text.partition("/")
    if not slash:
        raise click.BadParameter(f"{text!r} is no FROM/TO")
    return start, end


def _note(text: str, quiet: bool) -> None:
    if not quiet:
        click.echo(text, err=True)


def _show(directory: Path, as_json: bool) -> None:
    """What a directory already holds."""
    from toxmid.replay import Replay

    there = Replay.load(directory)
    click.echo(json.dumps(there.manifest, indent=2, ensure_ascii=False) if as_json else there.summary())


def _configuration(path: Path | None) -> tuple[Any, Any]:
    """Parameters and instrument of a configuration file; None where it has none."""
    from toxmid.instrument import Instrument
    from toxmid.params import Params

    if path is None:
        return None, None
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"not a configuration in TOML: {error}", file=str(path)) from error
    unknown = sorted(tables.keys() - {"params", "instrument"})
    if unknown:
        raise ParameterError("unknown table", file=str(path), found=unknown, expected="[params], [instrument]")
    try:
        params = Params.from_dict(tables["params"]) if "params" in tables else None
        instrument = Instrument.from_dict(tables["instrument"]) if "instrument" in tables else None
    except ParameterError as error:
        raise ParameterError(
            error.message, file=str(path), column=error.column, found=error.found, expected=error.expected
        ) from None
    return params, instrument


def _exit_code(error: ToxmidError) -> int:
    if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_ROOM:
        return FAILED  # nothing is wrong with the data
    if isinstance(error, ParameterError):
        return USAGE
    return BAD_DATA if isinstance(error, FileError | DataError | NotEnoughDataError) else FAILED


def _warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    del category
    click.echo(f"toxmid: note: {message}", err=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command ``toxmid``: run it, and leave with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    warnings.showwarning = _warn
    try:
        cli.main(args=words, prog_name="toxmid", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("toxmid: interrupted; nothing was half-written", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has enough of it
        sys.exit(DONE)
    except ToxmidError as error:
        _complain(error, words)
        sys.exit(_exit_code(error))
    except (OSError, MemoryError) as error:
        _complain(error, words)
        sys.exit(FAILED)


def _complain(error: BaseException, words: Sequence[str]) -> None:
    """One line; the traceback too where it was asked for."""
    if {"-v", "--verbose"} & set(words):
        traceback.print_exception(error)
    click.echo(f"toxmid: {error or type(error).__name__}", err=True)
