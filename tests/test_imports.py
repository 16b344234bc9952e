"""Who imports whom: stages only to their left, the library no stage, and nothing slow before a command needs it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from epochcast.__main__ import COMMANDS
from epochcast.paths import CODE_ROOT

STAGES = ("workload", "collect", "aggregate", "model", "planner")  # data flow from left to right
PACKAGES = ("epochcast", *STAGES)
SLOW = frozenset({"tensorflow", "keras", "jax", "torch", "sklearn", "scipy", "matplotlib", "pandas", "PIL"})

MODULES = {
    ".".join(path.relative_to(CODE_ROOT).with_suffix("").parts): path
    for package in PACKAGES
    for path in sorted((CODE_ROOT / package).rglob("*.py"))
}
# who prints without being a main, and why that is no library printing
PRINTS = {
    "epochcast.__main__._dispatch": "the half of main that chooses: help, version, an unknown command",
    "epochcast.guard.say": "the one place where an exception becomes a line on stderr",
    "collect.measure.main.tell": "writes events to the parent process, not to the screen",
    "collect.run_one.output_printer.show": "passes on what a run prints; only mains hand it to the library",
    "planner.demo.measure": "hands a print to the grid: the demonstration is a screen, nobody imports it",
    "model.predict_perf._print": "the second half of main: an answer as lines, a table or JSON",
    "model.progress.Progress.__call__": "how far a long fit is, on stderr: training and evaluation take long enough",
    "planner.demo.learn_and_plan": "says what takes long on the demonstration's screen",
}


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"), MODULES[module].name)


def imported_by(nodes: Iterator[ast.AST], module: str) -> Iterator[str]:
    """Full names of the modules that import statements among `nodes` name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            assert node.module is not None
            yield node.module
            yield from (name for a in node.names if (name := f"{node.module}.{a.name}") in MODULES)


def at_module_level(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when a module is imported: not those in functions, nor those only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_module_level(child)


def top(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_of_the_project_is_looked_at():
    assert len(MODULES) > 25
    assert {top(module) for module in MODULES} == set(PACKAGES)
    for module, _ in COMMANDS.values():
        assert module in MODULES


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) in STAGES])
def test_a_stage_imports_the_library_and_stages_to_its_left_only(module):
    imported = {top(name) for name in imported_by(ast.walk(tree_of(module)), module)} & set(STAGES)
    allowed = set(STAGES[: STAGES.index(top(module)) + 1])
    assert imported <= allowed, f"{module} imports {imported - allowed}, which stands to its right"


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) == "epochcast"])
def test_the_library_imports_no_stage(module):
    assert not {top(name) for name in imported_by(ast.walk(tree_of(module)), module)} & set(STAGES)


@pytest.mark.parametrize("module", MODULES)
def test_only_the_door_imports_by_a_name_that_it_is_given(module):
    """Imports by name would hide from the tests above."""
    text = MODULES[module].read_text(encoding="utf-8")
    by_name = {"import_module(", "__import__("} & {name for name in ("import_module(", "__import__(") if name in text}
    assert by_name == ({"import_module("} if module == "epochcast.__main__" else set())


def imported_with(start: str) -> set[str]:
    """Names of all modules, ours and others, that are imported when `start` is."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        if module in MODULES:
            waiting += imported_by(at_module_level(tree_of(module)), module)
    return found


@pytest.mark.parametrize("module", ["epochcast.__main__", *(module for module, _ in COMMANDS.values())])
def test_no_command_imports_anything_slow_before_it_needs_it(module):
    found = imported_with(module)
    assert "epochcast.cli" in found or module == "epochcast.__main__"  # the walk goes somewhere
    assert not {name for name in found if top(name) in SLOW}


SHOW_HELP = """
import contextlib, importlib, io, json, sys
from epochcast.__main__ import COMMANDS, main
loaded, codes = {}, {}
for name, (module, _) in COMMANDS.items():
    importlib.import_module(module)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            codes[name] = main([name, "--help"])
        except SystemExit as end:
            codes[name] = end.code
    loaded[name] = sorted(name for name in sys.modules if "." not in name)
print(json.dumps([loaded, codes]))
"""


def test_no_help_starts_tensorflow_or_anything_else_that_is_slow():
    command = [sys.executable, "-c", SHOW_HELP]
    loaded, codes = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert set(codes.values()) == {0}
    for name in COMMANDS:
        assert "argparse" in loaded[name]
        assert not SLOW.intersection(loaded[name]), name


def prints_in(node: ast.AST, where: str) -> Iterator[tuple[str, str, int]]:
    """Every `print` or write to a standard stream: the function that it stands in, what is called, the line."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and ast.unparse(child.func) in ("print", "sys.stdout.write", "sys.stderr.write"):
            yield where, ast.unparse(child.func), child.lineno
        is_named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from prints_in(child, f"{where}.{child.name}" if is_named else where)


def may_print(where: str, what: str) -> bool:
    is_main = where.endswith((".main", ".main.work"))
    is_for_mains = where.startswith("epochcast.cli.")
    is_progress = what == "sys.stderr.write" and where.startswith(
        "workload."
    )  # of decoding images, which takes minutes
    return is_main or is_for_mains or is_progress or where in PRINTS


def test_only_mains_print():
    found = [(*call, module) for module in MODULES for call in prints_in(tree_of(module), module)]
    assert len(found) > 20
    others = [f"{MODULES[module]}:{line}" for where, what, line, module in found if not may_print(where, what)]
    assert not others, f"libraries don't print, they log or return: {others}"
    unused = PRINTS.keys() - {where for where, *_ in found}
    assert not unused, f"no longer needed in PRINTS: {unused}"


@pytest.mark.parametrize("module", [module for module, _ in COMMANDS.values()])
def test_every_answer_in_json_is_json_by_any_reader(module):
    text = MODULES[module].read_text(encoding="utf-8")
    assert "print(json.dumps" not in text, "json_line refuses NaN, which is no JSON"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_has_the_name_of_one_of_the_standard_library(module):
    names = [part for part in module.split(".") if not part.startswith("__")]
    assert not set(names) & sys.stdlib_module_names
    assert Path(MODULES[module]).is_file()
