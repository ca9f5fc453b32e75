"""The command line: arguments in, calls of the library, words and exit codes out.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failure, 2 usage, 3 bad data, 4 done in part,
130 interrupted. What is wrong with a file is said in one line.
"""

from __future__ import annotations

import json
import sys
import tomllib
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from toxmid.errors import DataError, FileError, NotEnoughDataError, ParameterError, ToxmidError

__all__ = ["main"]

DONE, FAILED, USAGE, BAD_DATA, PARTLY, INTERRUPTED = 0, 1, 2, 3, 4, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="toxmid", prog_name="toxmid")
def cli() -> None:
    """In a toxic market, where is the market maker's own mid?

    Replays tick and order-book data, measures flow toxicity (VPIN), spread widening and price impact per unit of
    volume, and infers the mid that the maker herself believes in.
    """


_FILES = click.Path(path_type=str)
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress, no notes.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Say more; a traceback where something fails.")


@cli.command()
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


@cli.command()
@click.argument("files", nargs=-1, required=True, type=_FILES)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@_verbose
def inspect(files: Sequence[str], as_json: bool, verbose: bool) -> None:
    """Say what files are: format, instrument, rows, period, clock, units, problems."""
    from toxmid.inspect import inspect_files

    del verbose
    inspections = inspect_files(list(files))
    if as_json:
        click.echo(json.dumps([inspection.to_dict() for inspection in inspections], indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join(inspection.to_text() for inspection in inspections))
    if any(inspection.failed for inspection in inspections):
        sys.exit(BAD_DATA)


@cli.command()
@click.option("--trades", multiple=True, type=_FILES, help="Files, globs or directories of trades. May be repeated.")
@click.option("--book", multiple=True, type=_FILES, help="L2 book updates or snapshots.")
@click.option("--quotes", multiple=True, type=_FILES, help="Best bids and asks.")
@click.option("--liquidations", multiple=True, type=_FILES, help="A liquidation feed.")
@click.option("--mark", multiple=True, type=_FILES, help="Mark prices.")
@click.option("--reference", multiple=True, type=_FILES, help="Trades of another venue of the same coin.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--from", "start", metavar="T", help="Replay from this time on (ISO 8601, UTC).")
@click.option("--to", "end", metavar="T", help="Replay up to, not including, this time.")
@click.option("--state-in", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Go on from the state of an earlier replay.")
@click.option("--state-out", type=click.Path(dir_okay=False, path_type=Path),
              help="Keep the state, for a replay that goes on; the last bar stays open.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True,
              help="More than one: files are decoded beside the computation.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="TOML file with tables [params] and [instrument].")
@click.option("--dask", metavar="ADDRESS", help="Run the days on this Dask cluster (extra 'dask').")
@click.option("--coefficients", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Weights that 'toxmid fit' wrote.")
@click.option("--sort", is_flag=True, help="Put rows in order of time first.")
@click.option("--allow-partial", is_flag=True, help="Accept files whose last line is cut; it is dropped and counted.")
@click.option("--dry-run", is_flag=True, help="Only say what would be replayed, and how.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest instead of a summary.")
@_quiet
@_verbose
def replay(
    out: Path,
    start: str | None,
    end: str | None,
    state_in: Path | None,
    state_out: Path | None,
    workers: int,
    dask: str | None,
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
    """Replay tapes: bars, volume buckets and episodes, with the maker's implied mid, into a directory."""
    from toxmid import output
    from toxmid.replay import plan
    from toxmid.replay import replay as run

    del verbose
    params, instrument = _configuration(config)
    if coefficients is not None:
        from toxmid.estimator import FitResult

        params = FitResult.load(coefficients).apply(params)
    sources = {name: list(files) for name, files in inputs.items() if files}
    if not {"trades", "book", "quotes"} & sources.keys():
        raise click.UsageError("give at least one of --trades, --book, --quotes")
    if dask is not None:
        if state_in or state_out:
            raise click.UsageError("--dask keeps its states beside the parts; leave out --state-in and --state-out")
        options = {"start": start, "end": end, "sort": sort, "allow_partial": allow_partial}
        result = _on_cluster(sources, out, dask, params, instrument, options, quiet)
        result.save(out, overwrite=True)
        click.echo(json.dumps(result.manifest, indent=2, ensure_ascii=False) if as_json else result.summary())
        return
    arguments: dict[str, Any] = {
        **sources, "params": params, "instrument": instrument, "start": start, "end": end,
        "state": None if state_in is None else state_in.read_bytes(), "finish": state_out is None, "sort": sort,
        "allow_partial": allow_partial,
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


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("-o", "--output", "path", type=click.Path(dir_okay=False, path_type=Path),
              help="File to write; report.html inside the directory when left out.")
@_verbose
def report(directory: Path, path: Path | None, verbose: bool) -> None:
    """Write the report of a replay: one HTML file that needs nothing else."""
    from toxmid.report import report_directory

    del verbose
    click.echo(report_directory(directory, path))


@cli.command()
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


@cli.command()
@click.argument("files", nargs=-1, required=True, type=_FILES)
@click.option("--kind", required=True, type=click.Choice(["trades", "book", "quotes", "liquidations", "mark"]))
@click.option("-o", "--output", "path", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="Parquet file to write.")
@click.option("--from", "start", metavar="T", help="Keep rows from this time on (ISO 8601, UTC).")
@click.option("--to", "end", metavar="T", help="Keep rows up to, not including, this time.")
@click.option("--sort", is_flag=True, help="Put rows in order of time first.")
@click.option("--allow-partial", is_flag=True, help="Accept files whose last line is cut; it is dropped and counted.")
@_verbose
def convert(
    files: Sequence[str],
    kind: Any,
    path: Path,
    start: str | None,
    end: str | None,
    sort: bool,
    allow_partial: bool,
    verbose: bool,
) -> None:
    """Write tapes as canonical Parquet: sorted, compressed, in row groups sized for replay."""
    from toxmid.convert import convert as write

    del verbose
    written = write(list(files), path, kind, start=start, end=end, sort=sort, allow_partial=allow_partial)
    click.echo(f"{written.path}: {written.rows:,} rows, {written.bytes:,} bytes")


@cli.group()
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
@click.option("--kind", required=True, help="aggTrades, trades, bookTicker, liquidationSnapshot.")
@_days
@_quiet
@_verbose
def binance(
    market: Any,
    kind: str,
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
        out, market=market, kind=kind, symbols=list(symbols), start=start, end=end, progress=not quiet
    )
    _show_fetched(fetched)
    if any(file.status == "missing" for file in fetched):
        sys.exit(PARTLY)


@fetch.command()
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


@cli.command()
@click.argument("sources", nargs=-1, required=True, type=_FILES)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--dask", metavar="ADDRESS", help="Run on this Dask cluster instead (extra 'dask').")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="TOML file with tables [params] and [instrument].")
@click.option("--sort", is_flag=True, help="Put rows in order of time first.")
@click.option("--keep-going", is_flag=True, help="A bad file ends its market at that day, not the whole run.")
@_quiet
@_verbose
def batch(
    sources: Sequence[str],
    out: Path,
    workers: int,
    dask: str | None,
    config: Path | None,
    sort: bool,
    keep_going: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Replay many symbol-days: files are paired by market and day, state goes on from day to day."""
    from toxmid.jobs import pair_files, run_jobs, summarise

    del verbose
    params, instrument = _configuration(config)
    jobs = pair_files(list(sources))
    parts = run_jobs(
        jobs, out, workers=workers, params=params, dask=dask, sort=sort, progress=not quiet,
        instruments=None if instrument is None else {job.market: instrument for job in jobs},
        on_error="keep" if keep_going else "raise",
    )  # fmt: skip
    click.echo(summarise(parts))
    if any(part.error is not None for part in parts):
        sys.exit(PARTLY)


@cli.group()
def evaluate() -> None:
    """The honest table: every estimator and rival, side by side."""


_page = click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write it as a page, too.")
_saved = click.option("--out", type=click.Path(path_type=Path), help="Write the tables as Parquet, too.")


def _tell(evaluation: Any, out: Path | None, html: Path | None) -> None:
    if out is not None:
        evaluation.save(out)
    if html is not None:
        evaluation.to_html(html)
    click.echo(evaluation.summary())


@evaluate.command()
@click.option("--seeds", default="100000:100050", show_default=True, metavar="A:B", help="Seeds from A to before B.")
@click.option("--inputs", type=click.Choice(["trades", "quotes", "book"]), default="quotes", show_default=True)
@click.option("--book", type=click.Choice(["shallow", "deep", "sym"]), default="shallow", show_default=True)
@click.option("--feed", type=click.Choice(["full", "throttled", "none"]), default="full", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True)
@_saved
@_page
@_quiet
@_verbose
def simulated(
    seeds: str,
    inputs: Any,
    book: Any,
    feed: Any,
    workers: int,
    out: Path | None,
    html: Path | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Against the hidden mid of simulated markets."""
    from toxmid.evaluate import evaluate_simulated

    del verbose
    first, _, last = seeds.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise click.BadParameter("two whole numbers, the smaller first: A:B", param_hint="--seeds")
    result = evaluate_simulated(
        range(int(first), int(last)), inputs=inputs, book=book, feed=feed, workers=workers, progress=not quiet
    )
    _tell(result, out, html)


@evaluate.command()
@click.option("--trades", multiple=True, required=True, type=_FILES, help="The tape to judge on.")
@click.option("--truth", multiple=True, required=True, type=_FILES, help="Trades of the venue that serves as truth.")
@click.option("--window", "windows", multiple=True, required=True, metavar="NAME=FROM/TO", help="What to judge.")
@click.option("--basis", required=True, metavar="FROM/TO", help="A calm time, for the basis between the venues.")
@_saved
@_page
@_verbose
def referenced(
    trades: Sequence[str],
    truth: Sequence[str],
    windows: Sequence[str],
    basis: str,
    out: Path | None,
    html: Path | None,
    verbose: bool,
) -> None:
    """On a real tape, another venue's price being the truth."""
    from toxmid.evaluate import evaluate_referenced

    del verbose
    named = {name: _period(period) for name, _, period in (window.partition("=") for window in windows)}
    _tell(evaluate_referenced(list(trades), list(truth), named, _period(basis)), out, html)


@evaluate.command()
@click.argument("directories", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@_saved
@_page
@_verbose
def forecasts(directories: Sequence[Path], out: Path | None, html: Path | None, verbose: bool) -> None:
    """On real tapes without a truth: by what the quoted mid did later."""
    from toxmid.evaluate import evaluate_forecasts
    from toxmid.replay import Replay

    del verbose
    _tell(evaluate_forecasts([Replay.load(directory) for directory in directories]), out, html)


# --- helpers ---------------------------------------------------------------------------------------------------------


def _on_cluster(
    sources: dict[str, list[str]],
    out: Path,
    address: str,
    params: Any,
    instrument: Any,
    options: dict[str, Any],
    quiet: bool,
) -> Any:
    """Replay the days of one market on a Dask cluster, and put their parts together."""
    from toxmid.jobs import load_market, pair_files, run_jobs

    jobs = pair_files(sources)  # type: ignore[arg-type]
    markets = sorted({job.market for job in jobs})
    if len(markets) > 1:
        raise click.UsageError(f"files of {len(markets)} markets: use 'toxmid batch' ({', '.join(markets[:5])})")
    folder = out.with_name(f"{out.name}.parts")
    instruments = None if instrument is None else {markets[0]: instrument}
    run_jobs(jobs, folder, dask=address, params=params, instruments=instruments, progress=not quiet, **options)
    _note(f"parts are in {folder}", quiet)
    return load_market(folder, markets[0])


def _show_fetched(fetched: Sequence[Any]) -> None:
    for file in fetched:
        click.echo(f"{file.status:<8} {file.path}")


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
    params = Params.from_dict(tables["params"]) if "params" in tables else None
    instrument = Instrument.from_dict(tables["instrument"]) if "instrument" in tables else None
    return params, instrument


def _exit_code(error: ToxmidError) -> int:
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
