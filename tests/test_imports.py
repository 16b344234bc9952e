"""The rules of the house: who may import whom, what stands where, and what must not be imported too early.

Every test lists all offenders. Imports inside functions count, too, but for what is slow to import.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

from epochcast import STAGES  # data flows from left to right
from epochcast.__main__ import COMMANDS
from epochcast.paths import CODE_ROOT
from tests.support.import_graph import (
    COMMAND_MODULES,
    DOOR,
    FILES,
    MODULES,
    OTHERS,
    all_imported,
    at_module_level,
    circles,
    floor_of,
    graph,
    imported_by,
    package_of,
    stage_of,
    tree_of,
)

SLOW = frozenset({"tensorflow", "keras", "jax", "torch", "sklearn", "scipy", "matplotlib", "pandas", "PIL"})
MOST_FILES = 15  # in a folder
# who prints without being a main, and why that is no library printing
PRINTS = {
    "epochcast.__main__._dispatch": "the half of main that chooses: help, version, an unknown command",
    "epochcast.guard.say": "the one place where an exception becomes a line on stderr",
    "epochcast.collect.run.measure.main.emit": "writes events to the parent process, not to the screen",
    "epochcast.live.scripts.script.main.tell": "writes events to the parent process, not to the screen",
    "epochcast.collect.run.flags.output_printer.show": "passes on what a run prints; only mains hand it to the library",
    "epochcast.planner.demo.measure": "hands a print to the grid: the demonstration is a screen, nobody imports it",
    "epochcast.output.progress._show": "how far a long piece of work is, on stderr: training takes long enough",
    "epochcast.planner.demo.learn_and_plan": "says what takes long on the demonstration's screen",
}


def test_every_module_of_the_project_is_looked_at():
    assert len(MODULES) > 150
    assert {stage_of(module) for module in MODULES} == {None, *STAGES}
    assert {module for module, _ in COMMANDS.values()} == COMMAND_MODULES
    assert len(OTHERS) > 150


# --- the rules of the house -------------------------------------------------------------------------------------------


def test_a_stage_imports_stages_to_its_left_only_and_the_library_imports_none():
    offenders = []
    for module, path in MODULES.items():
        stage = stage_of(module)
        allowed = STAGES[: STAGES.index(stage) + 1] if stage else ()
        offenders += [(module, name) for name in all_imported(path) if stage_of(name) not in (None, *allowed)]
    assert sorted(offenders) == []


def test_an_import_in_the_library_goes_down_a_floor_or_stays_in_its_package():
    offenders = [
        (module, name)
        for module, names in graph().items()
        if stage_of(module) is None and module != DOOR
        for name in names
        if stage_of(name) is None and module.split(".")[1] != name.split(".")[1]
        if floor_of(name) >= floor_of(module)
    ]
    assert sorted(offenders) == []


def test_nobody_imports_a_command_but_the_door_and_the_demonstration():
    offenders = [
        (module, name)
        for module, names in graph().items()
        if module not in (DOOR, "epochcast.planner.demo")
        for name in names & COMMAND_MODULES
    ]
    assert sorted(offenders) == []


def test_a_folder_has_at_most_fifteen_files():
    folders = Counter(path.parent.relative_to(CODE_ROOT) for path in (FILES | OTHERS).values())
    assert {str(folder): n for folder, n in folders.items() if n > MOST_FILES} == {}


def test_no_modules_import_each_other_in_a_circle_and_no_two_packages_each_other():
    assert circles(graph()) == []
    arrows = {(package_of(a), package_of(b)) for a, names in graph().items() for b in names}
    # files at the library's top stand on floors of their own
    assert sorted((a, b) for a, b in arrows if a < b and (b, a) in arrows and a != "epochcast") == []


def test_stages_are_imported_from_epochcast_alone():
    """A user's own `model.py` or `collect/` is another module than ours."""
    offenders = [
        (module, name)
        for module, path in (FILES | OTHERS).items()
        for name in all_imported(path)
        if name.split(".")[0] in STAGES
    ]
    assert sorted(offenders) == []


def test_only_the_door_imports_by_a_name_that_it_is_given():
    """Imports by name would hide from the tests above."""
    words = ("import_module(", "__import__(")
    found = {(module, word) for module, path in MODULES.items() for word in words if word in path.read_text("utf-8")}
    assert found == {(DOOR, "import_module(")}


def test_no_module_has_the_name_of_one_of_the_standard_library():
    parts = {part for module in MODULES for part in module.split(".") if not part.startswith("__")}
    assert not parts & sys.stdlib_module_names


# --- nothing slow before a command needs it ---------------------------------------------------------------------------


def imported_with(start: str) -> set[str]:
    """Names of all modules, ours and others, that are imported when `start` is."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        if module in FILES:
            waiting += imported_by(at_module_level(tree_of(FILES[module])), FILES[module])
    return found


def test_no_command_imports_anything_slow_before_it_needs_it():
    found = {module: imported_with(module) for module in (DOOR, *(module for module, _ in COMMANDS.values()))}
    assert all("epochcast.cli" in names for module, names in found.items() if module != DOOR)  # the walk goes somewhere
    slow = {module: {name for name in names if name.split(".")[0] in SLOW} for module, names in found.items()}
    assert {module: names for module, names in slow.items() if names} == {}


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


# --- printing ---------------------------------------------------------------------------------------------------------


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
    # of decoding images, which takes minutes
    is_progress = what == "sys.stderr.write" and where.startswith("epochcast.workload.")
    return is_main or is_for_mains or is_progress or where in PRINTS


def test_only_mains_print():
    found = [(*call, path) for module, path in MODULES.items() for call in prints_in(tree_of(path), module)]
    assert len(found) > 20
    others = [f"{path}:{line}" for where, what, line, path in found if not may_print(where, what)]
    assert not others, f"libraries don't print, they log or return: {others}"
    unused = PRINTS.keys() - {where for where, *_ in found}
    assert not unused, f"no longer needed in PRINTS: {unused}"


def test_every_answer_in_json_is_json_by_any_reader():
    """`json_line` refuses NaN, which is no JSON."""
    texts = {module: MODULES[module].read_text(encoding="utf-8") for module, _ in COMMANDS.values()}
    assert [module for module, text in texts.items() if "print(json.dumps" in text] == []
