"""The project's files and what they import, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from epochcast import STAGES
from epochcast.paths import CODE_ROOT

DOOR = "epochcast.__main__"
# of the library, the lowest first: an import goes down only
FLOORS = (
    ("error_text", "interval", "paths", "stats", "text_sinks", "timing", "validation"),
    ("guard",),
    ("machine", "schema"),
    ("run_noise",),
    ("steady_time", "storage"),
    ("output",),
    ("facts", "flag_types"),
    ("cli", "roofline"),
    ("gpus", "keras_layers"),
    ("energy", "footprint", "keras_files"),
    ("live", "mlperf"),
    ("commands",),
)


def name_of(path: Path) -> str:
    """Return the name by which a file is imported; a stage's folder is imported from `epochcast`."""
    parts = path.relative_to(CODE_ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return f"epochcast.{name}" if parts[0] in STAGES else name


def files_below(*folders: str) -> dict[str, Path]:
    """Return every Python file below the folders, by the name that it is imported by."""
    return {name_of(path): path for folder in folders for path in sorted((CODE_ROOT / folder).rglob("*.py"))}


FILES = files_below("epochcast", *STAGES)  # of the product
MODULES = {name: path for name, path in FILES.items() if path.name != "__init__.py"}
OTHERS = files_below("tests", "benchmarks")
KNOWN = FILES.keys() | OTHERS.keys()
# a module at the top of a stage that has packages, and one in epochcast/commands/
COMMAND_MODULES = {
    name
    for name, path in MODULES.items()
    if (path.parent.name in STAGES[1:] and path.parent.parent == CODE_ROOT) or path.parent.name == "commands"
}


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


def imported_by(nodes: Iterable[ast.AST], path: Path) -> Iterator[str]:
    """Yield the full name of each module or name that import statements among `nodes` import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in KNOWN else node.module


@cache
def all_imported(path: Path) -> set[str]:
    """Return what a file imports anywhere, inside functions too."""
    return set(imported_by(ast.walk(tree_of(path)), path))


def at_module_level(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes that run when a module is imported: none in functions, none for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_module_level(child)


@cache
def graph() -> dict[str, set[str]]:
    """Return the modules of the product that each of them imports, itself left out."""
    return {name: (all_imported(path) & MODULES.keys()) - {name} for name, path in MODULES.items()}


def stage_of(module: str) -> str | None:
    """Return the stage that a module is in; None for the library and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "epochcast" and len(parts) > 1 and parts[1] in STAGES else None


def package_of(module: str) -> str:
    """Return the package that holds a module."""
    return module.rpartition(".")[0]


def floor_of(module: str) -> int:
    """Return the floor of a module of the library, 0 the lowest.

    Raises:
        ValueError: if its file or folder stands on no floor.
    """
    part = module.split(".")[1]
    for number, floor in enumerate(FLOORS):
        if part in floor:
            return number
    raise ValueError(f"{module}: epochcast/{part} is on no floor; name it in FLOORS.")


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return every set of names that can reach one another, sorted."""
    reached = {start: _reached(start, arrows) for start in arrows}
    groups = {frozenset(b for b in reached[a] if a in reached.get(b, ())) for a in arrows if a in reached[a]}
    return sorted(sorted(group) for group in groups)


def _reached(start: str, arrows: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [*arrows[start]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += arrows.get(name, ())
    return found
