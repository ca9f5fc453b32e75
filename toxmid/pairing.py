"""Which files belong together: trades, quotes, books and liquidations of one market and one day or month."""

from __future__ import annotations

import datetime as dt
import glob as globbing
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from toxmid import output
from toxmid.errors import DataError, FileError, ParameterError
from toxmid.instrument import Instrument
from toxmid.merging import INPUTS, formats_by_input, input_of
from toxmid.readers import (
    Source,
    TapeWarning,
    companions_elsewhere,
    date_in_name,
    named_entries,
    open_tape,
    recognise,
    tapes_among,
    warn_of_poorer,
)
from toxmid.readers.base import Format, Identity
from toxmid.readers.files import Head, read_head
from toxmid.schema import KINDS, Kind

__all__ = ["Job", "pair_files", "tapes_of"]

# Names of Tardis files; those without rows say nothing else about themselves.
_TARDIS: Final = re.compile(r"(?P<venue>[a-z0-9-]+)_(?P<type>[A-Za-z0-9_]+?)_\d{4}-\d\d-\d\d_(?P<symbol>.+?)\.csv.*")
_TARDIS_KINDS: Final[Mapping[str, Kind]] = {
    "trades": "trades",
    "liquidations": "liquidations",
    "quotes": "quotes",
    "book_ticker": "quotes",
    "incremental_book_L2": "book",
    "book_snapshot_5": "book",
    "book_snapshot_25": "book",
    "derivative_ticker": "mark",
}
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._+-]+")
REPLAYED: Final[tuple[Kind, ...]] = tuple(dict.fromkeys(INPUTS.values()))
_STARTING_KINDS: Final = frozenset({"trades", "book", "quotes"})


@dataclass(frozen=True)
class Job:
    """One market, one day or month, and its files.

    Parameters
    ----------
    symbol : str
        As the venue writes it.
    label : str
        The day or month, ``"2024-08-05"`` or ``"2024-08"``; jobs of one market run in the order of their labels.
    files : mapping of str to tuple of Path
        Files by kind, each in the order of time; ``"reference"`` and ``"reference:<venue>"`` (trades of other venues)
        may be among them.
    venue : str, optional
        As the files write it.

    Examples
    --------
    >>> Job("BTCUSDT", "2024-08-05", {"trades": (Path("btc.csv.gz"),)}, venue="binance-futures").market
    'binance-futures_BTCUSDT'
    """

    symbol: str
    label: str
    files: Mapping[str, tuple[Path, ...]] = field(hash=False)
    venue: str | None = None

    @property
    def market(self) -> str:
        """Venue and symbol, as the name of a folder."""
        return _UNSAFE.sub("-", "_".join(part for part in (self.venue, self.symbol) if part))

    @property
    def name(self) -> str:
        """Market and day."""
        return f"{self.market}/{self.label}"

    @property
    def bytes(self) -> int:
        """Size of all files: how long the job will take, about."""
        return sum(path.stat().st_size for paths in self.files.values() for path in paths if path.exists())


@dataclass(frozen=True)
class _Found:
    """What a file shows."""

    path: Path
    format: str
    kinds: tuple[Kind, ...]
    identity: Identity
    label: str
    named: bool  # whose it is, only its name says, where letters of the symbol may have been replaced
    companions: tuple[Path, ...] = ()  # files from elsewhere that hold the rest of its rows
    levels: int = 0  # of a book, on each side


@dataclass(frozen=True)
class _Search:
    """What is looked for in every file."""

    symbol: str | None
    keep_bad: bool
    allow_partial: bool
    paths: Sequence[Path]  # all files of the sources


def pair_files(
    source: Source | Mapping[Any, Source],
    *,
    kinds: Iterable[Kind] = REPLAYED,
    formats: str | Iterable[str] | Mapping[str, str] | None = None,
    symbol: str | None = None,
    keep_bad: bool = False,
    allow_partial: bool = False,
) -> list[Job]:
    """Put the files of each market and day together.

    Parameters
    ----------
    source : path, glob, folder, or list of them; or a mapping of kind to such sources
        Folders are searched with all folders below them. In a mapping the files of each kind are used for that only;
        ``"reference"``, or ``"reference:<venue>"``, are trades of other venues, which join the job of their day.
    kinds : iterable of str
        Kinds to use, those that a replay takes when left out; others are passed over.
    formats : str, iterable of str, or mapping, optional
        Names of formats or families to use, or ``.toml`` files that describe delimited text; others are passed over.
        A mapping names one for some kinds, ``{"trades": "trades.toml"}``; files of the others are recognised.
    symbol : str, optional
        Use only files with rows of this symbol, where a file holds several; files that name none are taken as its own.
    keep_bad : bool
        A file that cannot be looked at, but whose name (as Tardis writes it) says what it should be, joins its job all
        the same, to fail there. Without it, it is an error at once.
    allow_partial : bool
        Accept files whose last line is cut, as the reading of them will.

    Returns
    -------
    list of Job
        By market, then by day. Where some file of a market covers a month, its days are taken month by month.

    Raises
    ------
    FileError
        Nothing is there, or a file is of no format we know.
    DataError
        A file does not say whose or of which day it is, may be of several formats, or two formats offer the same kind
        for one market and day; the message says how to choose.

    Warns
    -----
    TapeWarning
        A market lacks on one day a kind that it has on others, or has no trades, quotes or book and is left out.

    Notes
    -----
    Venue and symbol are those that the files (or their names) give. The day is the one in the name of the file, else
    that of its first row. A file that holds only the kind in question wins over one that holds others too; snapshots of
    a book, whose best prices could pass for quotes, are used as a book only.

    Examples
    --------
    >>> for job in pair_files("data/tardis/binance-delivery*"):
    ...     print(job.name, *job.files)
    binance-delivery_AVAXUSD_PERP/2025-10-10 trades liquidations
    """
    sources: list[tuple[tuple[Kind, ...], Source]]
    elsewhere: dict[str, Source] = {}
    if isinstance(source, Mapping):
        elsewhere = {name: files for name, files in source.items() if input_of(name) == "reference"}
        source = {kind: files for kind, files in source.items() if kind not in elsewhere}
        wanted = _known_kinds(source)
        sources = [((kind,), files) for kind, files in source.items()]
    else:
        wanted = _known_kinds(kinds)
        sources = [(wanted, source)]
    paths = [(kinds, tapes_of(files)) for kinds, files in sources]
    every = list(dict.fromkeys(path for _, files in paths for path in files))
    search = _Search(symbol, keep_bad, allow_partial, every)
    found = [
        file
        for kinds, files in paths
        for path in files
        for file in _looks(path, _choices(kinds, formats), search)
    ]
    if not found:
        raise FileError("none of the files holds what was asked for", expected=", ".join(wanted))
    jobs = [job for market in _markets(found) for job in _jobs(market)]
    for name, files in elsewhere.items():
        format = formats_by_input(formats).get("reference") if isinstance(formats, str | Mapping) else None
        jobs = _with_reference(jobs, name, tapes_of(files), format, search)
    return sorted(jobs, key=lambda job: (job.market, job.label))


# --- one file --------------------------------------------------------------------------------------------------------


def _known_kinds(kinds: Iterable[Kind]) -> tuple[Kind, ...]:
    wanted = tuple(kinds)
    unknown = [kind for kind in wanted if kind not in KINDS]
    if unknown or not wanted:
        raise ParameterError("no such kind", column="kinds", found=unknown, expected=", ".join(KINDS))
    return wanted


def tapes_of(source: Source) -> list[Path]:
    """Files of paths, globs and folders; of folders, with all folders below them, those that may be tapes. What toxmid
    has written there itself is none.

    Raises
    ------
    FileError
        There is none.
    """
    entries = named_entries(source)
    paths = list(dict.fromkeys(path for entry in entries for path in _expand(entry)))
    if not paths:
        raise FileError("no file that may be a tape", found=[str(entry) for entry in entries])
    return paths


def _expand(path: Path) -> Iterator[Path]:
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if not _is_hidden(file, path))
        yield from tapes_among((file for file in files if not output.is_output(file.parent)), path)
    elif path.exists() or not globbing.has_magic(str(path)):
        yield path
    else:
        matches = sorted(map(Path, globbing.glob(str(path), recursive=True)))
        if not matches:
            raise FileError("no file matches", file=str(path))
        for match in matches:
            yield from _expand(match)


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


_Choices = Sequence[tuple[tuple[str, ...] | None, tuple[Kind, ...]]]


def _choices(wanted: tuple[Kind, ...], formats: str | Iterable[str] | Mapping[str, str] | None) -> _Choices:
    """Formats among which to look for kinds; None is all that we know."""
    if formats is None:
        return [(None, wanted)]
    if not isinstance(formats, Mapping):
        return [((formats,) if isinstance(formats, str) else tuple(formats), wanted)]
    named = {kind: name for kind, name in formats_by_input(formats).items() if kind in wanted}
    groups = [((name,), tuple(kind for kind in named if named[kind] == name)) for name in dict.fromkeys(named.values())]
    others = tuple(kind for kind in wanted if kind not in named)
    return [*groups, *([(None, others)] if others else [])]


def _looks(path: Path, choices: _Choices, search: _Search) -> list[_Found]:
    """What a file is, by every choice of formats; no file that one of them knows has to be known by the others."""
    try:
        return _looks_well(path, choices, search)
    except (FileError, DataError):
        kinds = [kind for _, kinds in choices for kind in kinds]
        name = _TARDIS.fullmatch(path.name)
        if not search.keep_bad or name is None or _TARDIS_KINDS.get(name["type"]) not in kinds:
            raise
        if search.symbol not in (None, name["symbol"]):
            return []
        kind = _TARDIS_KINDS[name["type"]]
        identity = Identity(name["venue"], name["symbol"])
        return [_Found(path, f"tardis-{name['type']}", (kind,), identity, _label(path, (kind,), search), named=True)]


def _looks_well(path: Path, choices: _Choices, search: _Search) -> list[_Found]:
    head = read_head(path)
    found: list[_Found] = []
    for names, kinds in choices:
        try:
            file = _look(head, kinds, names, search)
        except FileError:
            if not found:
                raise
            continue
        found += [file] if file is not None else []
    return found


def _look(head: Head, wanted: Sequence[Kind], names: Sequence[str] | None, search: _Search) -> _Found | None:
    """What a file is; None where it is not asked for."""
    path, symbol = head.path, search.symbol
    if head.container == "text" and not head.lines:
        empty = _without_rows(path, wanted, search)
        return empty if empty is None or symbol in (None, empty.identity.symbol) else None
    fitting = _fitting(head, names)
    if not fitting:
        return None
    if len(fitting) > 1:
        raise _ambiguous(path, [format_.name for format_, _ in fitting])
    (format_, name), *_ = fitting
    held = format_.kinds(head)
    if not held:
        warnings.warn(f"{path}: no tape, and passed over", TapeWarning, stacklevel=2)
    kinds = tuple(kind for kind in held if kind in wanted)
    if not kinds:
        return None
    if {"trades", "liquidations"} == set(kinds):
        raise DataError("the columns fit trades and liquidations; name the file after one of them", file=str(path))
    head = replace(head, companions=companions_elsewhere(head, kinds[0], search.paths))
    identity = format_.identify(head)
    named = identity.symbol is None
    identity = _identity_by_name(path, symbol) if named else identity
    if symbol is not None and identity.symbol != symbol:
        if not _holds(symbol, head, format_, kinds[0]):
            return None
        identity = Identity(identity.venue, symbol)
    label = _label(path, kinds, search, name, head.companions)
    return _Found(path, format_.name, kinds, identity, label, named, head.companions, format_.levels(head))


def _fitting(head: Head, names: Sequence[str] | None) -> list[tuple[Format, str]]:
    """Formats that a file may be of, each with the name that chooses it."""
    if names is None:
        return [(format_, format_.name) for format_ in recognise(head)]
    found: dict[str, tuple[Format, str]] = {}
    for name in names:
        try:
            found |= {format_.name: (format_, name) for format_ in recognise(head, name)}
        except FileError:
            if name.endswith(".toml") and not Path(name).expanduser().is_file():
                raise  # it is not the tape that is wrong
    return list(found.values())


def _holds(symbol: str, head: Head, format_: Format, kind: Kind) -> bool:
    """Whether a file whose first row is of another symbol has rows of this one."""
    name = _TARDIS.fullmatch(head.name)
    if not format_.labelled() or (name is not None and name["symbol"] == format_.identify(head).symbol):
        return False
    for lines in format_.lines(head, kind, allow_partial=True):
        if lines.same.get("symbol") == symbol:
            return True
        if "symbol" in lines.frame.columns and (lines.frame["symbol"] == symbol).any():
            return True
    return False


def _without_rows(path: Path, wanted: Sequence[Kind], search: _Search) -> _Found | None:
    """A vendor's way to say that nothing happened; all that is known is in the name."""
    name = _TARDIS.fullmatch(path.name)
    kind = _TARDIS_KINDS.get(name["type"]) if name is not None else None
    if name is None or kind is None:
        warnings.warn(f"{path}: the file is empty and was passed over", TapeWarning, stacklevel=2)
        return None
    if kind not in wanted:
        return None
    identity = Identity(name["venue"], name["symbol"])
    return _Found(path, f"tardis-{name['type']}", (kind,), identity, _label(path, (kind,), search), named=True)


def _identity_by_name(path: Path, symbol: str | None) -> Identity:
    name = _TARDIS.fullmatch(path.name)
    if name is None and symbol is not None:
        return Identity(None, symbol)
    if name is None:
        raise DataError(
            "the file does not say which instrument it holds",
            file=str(path),
            expected="a column or name with it, or --symbol (symbol=)",
        )
    return Identity(name["venue"], name["symbol"])


def _label(
    path: Path,
    kinds: Sequence[Kind],
    search: _Search,
    format: str | None = None,
    companions: Sequence[Path] = (),
) -> str:
    """The day or month of a file: from its name, else from the first row of the first of these kinds that has one."""
    named = date_in_name(path)
    if named is not None:
        return named
    instrument = None if search.symbol is None else Instrument(symbol=search.symbol)
    options: dict[str, Any] = {"format": format, "instrument": instrument, "allow_partial": search.allow_partial}
    for kind in kinds:
        for frame in open_tape([path, *companions], kind, **options).frames():
            if frame.height:
                return str(frame["ts"].dt.date()[0])
    raise DataError("neither the name nor a row says which day this is", file=str(path))


# --- one market ------------------------------------------------------------------------------------------------------


def _markets(found: Sequence[_Found]) -> list[list[_Found]]:
    """Files by market, those first that say themselves whose they are."""
    markets: dict[str, list[_Found]] = {}
    for file in sorted(found, key=lambda file: file.named):
        identity = file.identity
        market = markets.setdefault(Job(identity.symbol or "", file.label, {}, identity.venue).market, [])
        if market and not file.named and market[0].identity.symbol != identity.symbol:
            both = [market[0].identity.symbol, identity.symbol]
            raise DataError("two markets would share one folder", file=str(file.path), found=both)
        market.append(file)
    return list(markets.values())


def _jobs(files: Sequence[_Found]) -> list[Job]:
    """Jobs of one market."""
    identity = files[0].identity
    months = {file.label for file in files if len(file.label) == len("2024-08")}
    groups: dict[str, list[_Found]] = {}
    for file in files:
        month = file.label[:7]
        groups.setdefault(month if month in months else file.label, []).append(file)
    _join_undated(groups)
    jobs = [
        Job(identity.symbol or "", label, _by_kind(label, group), identity.venue) for label, group in groups.items()
    ]
    usable = [job for job in sorted(jobs, key=lambda job: job.label) if _can_start(job)]
    _warn_of_holes(usable)
    return usable


def _join_undated(groups: dict[str, list[_Found]]) -> None:
    """Files without a date in their names may go on for days. One that makes no job by itself, as the liquidations of a
    recorder that began a day after its trades, joins the files of this kind that began last before it, or next."""
    undated = {
        label: all(date_in_name(file.path) is None for file in files) for label, files in sorted(groups.items())
    }
    starting = {label: any(_STARTING_KINDS & set(file.kinds) for file in groups[label]) for label in undated}
    hosts = [label for label in undated if undated[label] and starting[label]]
    for label in [label for label in undated if undated[label] and not starting[label]]:
        before = [host for host in hosts if host < label]
        if hosts:
            groups[before[-1] if before else hosts[0]] += groups.pop(label)


def _with_reference(
    jobs: Sequence[Job], name: str, files: Sequence[Path], format: str | None, search: _Search
) -> list[Job]:
    """The jobs with the files of another venue, each where its day is."""
    by_label: dict[str, list[Path]] = {}
    labels = {job.label for job in jobs}
    for path in files:
        label = _label(path, ("trades",), replace(search, symbol=None), format)
        label = label if label in labels else label[: len("2024-08")]
        if label not in labels:
            warnings.warn(f"{path}: of a day without a tape, and passed over", TapeWarning, stacklevel=3)
        by_label.setdefault(label, []).append(path)
    return [
        replace(job, files={**job.files, name: tuple(sorted(by_label[job.label], key=_natural))})
        if job.label in by_label
        else job
        for job in jobs
    ]


def _by_kind(label: str, files: Sequence[_Found]) -> dict[str, tuple[Path, ...]]:
    """For each kind the files that give it."""
    chosen: dict[str, tuple[Path, ...]] = {}
    for kind in KINDS:
        holding = [file for file in files if kind in file.kinds]
        fewest = min((len(file.kinds) for file in holding), default=0)
        best = [file for file in holding if len(file.kinds) == fewest]
        if kind == "quotes" and "book" in chosen:
            best = [file for file in best if set(file.kinds) != {"book", "quotes"}]
        if not best:
            continue
        formats = sorted({file.format for file in best})
        if len(formats) > 1:
            raise _ambiguous(best[0].path, formats, f"{kind} of {label}")
        best = _deepest(kind, best, holding if kind == "book" else best)
        if len({len(file.label) for file in best}) > 1:
            raise DataError(
                f"{kind} of {label} are there by day and by month; give one of them", file=str(best[0].path)
            )
        ordered = sorted(best, key=lambda file: (file.label, _natural(file.path)))
        along = (path for file in ordered for path in file.companions)
        chosen[kind] = tuple(dict.fromkeys([*(file.path for file in ordered), *along]))
    return chosen


def _deepest(kind: Kind, best: Sequence[_Found], holding: Sequence[_Found]) -> list[_Found]:
    """Of snapshots of one book the deepest of each day: five levels and 25 of them are one book twice."""
    most: dict[str, int] = {}
    for file in best:
        most[file.label] = max(most.get(file.label, 0), file.levels)
    kept = [file for file in best if file.levels == most[file.label]]
    for file in holding:
        if file.levels and file not in kept:
            warn_of_poorer(kind, file.path, next((one.path for one in kept if one.label == file.label), kept[0].path))
    return kept


def _ambiguous(path: Path, formats: Sequence[str], what: str = "the file") -> DataError:
    return DataError(
        f"{what} may be read from several formats",
        file=str(path),
        found=", ".join(formats),
        expected="one; --format or formats= chooses it",
    )


def _can_start(job: Job) -> bool:
    if _STARTING_KINDS & job.files.keys():
        return True
    warnings.warn(f"{job.name} has {', '.join(job.files)} only and is left out", TapeWarning, stacklevel=2)
    return False


def _warn_of_holes(jobs: Sequence[Job]) -> None:
    """Where a feed comes and goes, so do the columns it feeds; where a day is missing, nobody knows what traded."""
    missing = _days_between([job.label for job in jobs])
    if missing:
        warnings.warn(f"{jobs[0].market} has no files of {_listed(missing)}: a gap", TapeWarning, stacklevel=2)
    every = {kind for job in jobs for kind in job.files}
    for kind in sorted(every):
        without = [job.label for job in jobs if kind not in job.files]
        if without:
            warnings.warn(f"{jobs[0].market} has no {kind} on {_listed(without)}", TapeWarning, stacklevel=2)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")


def _days_between(labels: Sequence[str]) -> list[str]:
    """Days, or months, between the first and the last that are not there; of days and months mixed, nothing is said.

    >>> _days_between(["2024-12-30", "2025-01-02"]), _days_between(["2024-11", "2025-01"])
    (['2024-12-31', '2025-01-01'], ['2024-12'])
    """
    if len({len(label) for label in labels}) != 1:
        return []
    form = "%Y-%m-%d" if len(labels[0]) == len("2024-08-05") else "%Y-%m"
    first, last = (dt.datetime.strptime(label, form).date() for label in (min(labels), max(labels)))
    days = (first + dt.timedelta(days=number) for number in range((last - first).days + 1))
    return sorted({day.strftime(form) for day in days} - set(labels))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which part 9 comes before part 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
