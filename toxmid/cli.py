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
    config: Path | None,
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
    sources = {name: list(files) for name, files in inputs.items() if files}
    if not {"trades", "book", "quotes"} & sources.keys():
        raise click.UsageError("give at least one of --trades, --book, --quotes")
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


# --- helpers ---------------------------------------------------------------------------------------------------------


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
