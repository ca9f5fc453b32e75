"""Imports run one way: a room may use the rooms below it and never one above, or itself in a circle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "toxmid"

# From the ground up; rooms of one line know nothing of each other. Packages are rooms as a whole.
ROOMS = (
    {"errors", "columns"},
    {"durations", "disk", "instrument", "prefetch", "progress"},
    {"schema", "params"},
    {"grids"},
    {"_core", "_decode", "_trades", "_simulate", "_filter", "_hawkes", "merging"},
    {"draws"},
    {"venues"},
    {"engine", "native", "tapes", "readers", "simulate", "output"},
    {"estimates", "microprice", "orders"},
    {"spreads", "liquidations", "impact", "components", "hawkes", "statespace"},
    {"hasbrouck", "markouts", "whole_sample"},
    {"vpin"},
    {"replay", "pairing", "ivpin"},
    {"summary", "report", "inspect", "convert", "fetch", "estimator"},
    {"jobs", "evaluate", "demo"},
    {"cli"},
    {"__init__", "__main__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}

# A result can print and draw itself; what draws it is above it and is called for only then.
CALLED_FOR = {("replay", "summary"), ("replay", "report")}

# Readers turn files into tables and tables into nothing; a simulated market knows no estimator.
NEVER = {
    "readers": {"_core", "engine", "params", "simulate", "merging"},
    "simulate": {"_core", "engine", "params", "readers"},
    "venues": {"_core", "params"},
    "report": {"_core", "engine", "replay", "readers"},
    "fetch": {"_core", "engine", "readers"},
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "steps" not in path.parts)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room_of(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def targets(node: ast.AST, package: str) -> list[str]:
    """Modules of this package that an import statement names, without the leading `toxmid.`"""
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        base = node.module or ""
        submodules = [alias.name for alias in node.names if exists(f"{base}.{alias.name}")]
        found = [f"{base}.{name}" for name in submodules] if submodules else [base]
    else:
        return []
    return [
        name.removeprefix("toxmid.") if name != "toxmid" else "__init__" for name in found if room_of(name) == package
    ]


def exists(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyx"))


@cache
def imports_of(path: Path) -> list[tuple[str, bool]]:
    """(module, is it imported at once) of every import; what stands in a function waits until it is called."""
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    waiting = {inner for function in functions for inner in ast.walk(function)}
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    return [
        (target, node not in waiting)
        for node in ast.walk(tree)
        if node not in typing_only
        for target in targets(node, "toxmid")
    ]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_down(path: Path) -> None:
    room = room_of(name_of(path))
    assert room in FLOOR, f"{room} has no place in ROOMS"
    for target, at_once in imports_of(path):
        other = room_of(target)
        if other == room or (not at_once and (room, other) in CALLED_FOR):
            continue
        assert other in FLOOR, f"{other} has no place in ROOMS"
        assert FLOOR[other] < FLOOR[room], f"{name_of(path)} imports {target}, which is not below it"
        assert other not in NEVER.get(room, ()), f"{room} must not know {other}"


def test_no_circles_inside_a_room() -> None:
    """Modules of one package, imported at once, form no circle."""
    graph = {name_of(path): {target for target, at_once in imports_of(path) if at_once} for path in modules()}
    graph = {name.removesuffix(".__init__"): after for name, after in graph.items()}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        for after in graph.get(name, ()):
            if room_of(after) == room_of(name):
                visit(after, (*trail, name))

    for name in graph:
        visit(name, ())


def test_steps_of_the_core_know_no_python() -> None:
    """The state machines use each other, C and compiled special functions; faces and errors are above them."""
    allowed = re.compile(r"toxmid\.steps\.|libc\.|scipy\.special\.cython_special")
    for path in sorted((PACKAGE / "steps").glob("*.pxd")):
        for line in path.read_text().splitlines():
            assert not re.match(r"\s*(import |from \S+ import )", line), f"{path.name}: {line}"
            cimported = re.match(r"\s*(?:from (\S+) cimport|cimport (\S+))", line)
            assert cimported is None or allowed.match(cimported[1] or cimported[2]), f"{path.name}: {line}"


def test_compiled_modules_stand_near_the_ground() -> None:
    for path in sorted(PACKAGE.glob("*.pyx")):
        for match in re.finditer(r"^\s*from (toxmid\S*) (c?)import (.+)$", path.read_text(), re.M):
            if match[2]:
                assert match[1].startswith("toxmid.steps"), match[0]
            else:
                assert FLOOR[room_of(match[1].removeprefix("toxmid."))] < FLOOR["_core"], match[0]


def test_a_short_run_does_not_wait_for_what_it_does_not_use() -> None:
    # Every worker process and every command pays for what the import of the package imports.
    program = "import sys, toxmid; print([name for name in ('scipy', 'statsmodels', 'jinja2') if name in sys.modules])"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent).stdout == "[]\n"
