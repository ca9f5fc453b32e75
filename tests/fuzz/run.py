"""Fuzz for as long as one likes: `PYTHONPATH=tests python -m fuzz.run --minutes 10`, see README.md."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import FunctionType

from toxmid.params import Params

from .mutate import lay_out
from .properties import QUICK, check_events, check_file, check_inspection, events
from .test_fuzz import SAMPLES

HANGING = 120.0  # seconds after which one execution is taken for one that never ends
PARAMS = (QUICK, Params(), Params(book_without_snapshot=True))


def fuzz_readers(random: Random, folder: Path) -> str:
    """A damaged sample: read, replayed, inspected; how far it came."""
    sample = random.choice(SAMPLES)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = lay_out(sample, Path(place), random)
        replayed = check_file(path)
        check_inspection(path)
    return "replayed" if replayed else "refused or without a tape to replay"


def fuzz_core(random: Random, folder: Path) -> str:
    """A market with impossible events."""
    del folder
    check_events(events(random, random.choice((3, 30, 300, 1500))), random.choice(PARAMS))
    return "played"


TARGETS: dict[str, Callable[[Random, Path], str]] = {"readers": fuzz_readers, "core": fuzz_core}


class _Fed(Random):
    """Random numbers that a coverage-guided fuzzer decides about."""

    def __init__(self, provider: object) -> None:
        super().__init__(0)
        self._provider = provider

    def random(self) -> float:
        return self._provider.ConsumeProbability() % 1.0

    def getrandbits(self, k: int) -> int:
        return int.from_bytes(self._provider.ConsumeBytes(-(-k // 8)).ljust(-(-k // 8), b"\0"), "little") >> (-k % 8)


def _functions() -> Iterator[FunctionType]:
    """Functions and methods of this package, as far as they are Python."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "toxmid":
            continue
        for thing in list(vars(module).values()):
            members = vars(thing).values() if isinstance(thing, type) else (thing,)
            yield from (
                member for member in members if isinstance(member, FunctionType) and member.__module__ == name
            )


def guided(target: Callable[[Random, Path], str], arguments: list[str]) -> None:
    """Let atheris look for inputs that reach code which no other input has reached."""
    import atheris

    for function in _functions():
        atheris.instrument_func(function)
    folder = Path(tempfile.mkdtemp())

    def one(data: bytes) -> None:
        target(_Fed(atheris.FuzzedDataProvider(data)), folder)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def blind(names: list[str], seconds: float, seed: int) -> int:
    """Seed after seed, every target in turn; how many distinct failures."""
    outcomes: Counter[str] = Counter()
    failures: dict[str, str] = {}
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            name = names[seed % len(names)]
            faulthandler.dump_traceback_later(HANGING, exit=True)
            try:
                outcomes[f"{name}: {TARGETS[name](Random(seed), Path(folder))}"] += 1
            except BaseException as error:
                outcomes[f"{name}: failed"] += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                key = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
                if key not in failures:
                    failures[key] = f"seed {seed} of {name}: {key}: {str(error)[:500]}"
                    print(failures[key], flush=True)
            seed += 1
    faulthandler.cancel_dump_traceback_later()
    print(f"{sum(outcomes.values()):,} executions, {len(failures)} distinct failures")
    for outcome, count in sorted(outcomes.items()):
        print(f"  {outcome}: {count:,}")
    return len(failures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--target", choices=TARGETS, action="append", help="readers or core; both when left out")
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris (extra 'fuzz')")
    arguments = parser.parse_args()
    names = arguments.target or list(TARGETS)
    if arguments.guided:
        seconds = int(60 * arguments.minutes)
        guided(TARGETS[names[0]], [f"-max_total_time={seconds}", f"-timeout={int(HANGING)}", "-max_len=4096"])
        return 0
    return 1 if blind(names, 60 * arguments.minutes, arguments.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
