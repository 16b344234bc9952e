"""Draw the project from its imports: `make architecture` writes the drawing into docs/architecture.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import zip_longest

from epochcast import STAGES
from epochcast.paths import CODE_ROOT
from tests.support.import_graph import FLOORS, MODULES, floor_of, graph, package_of, stage_of

PAGE = CODE_ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by `make architecture` -->\n", "<!-- end of the drawing -->\n"


def drawing() -> str:
    """Return the drawing: the stages as columns, the library's floors, and what each package imports."""
    return f"```text\n{_stages()}\n\n{_floors()}\n```\n\n{_arrows()}"


def _stages() -> str:
    columns = []
    for stage in STAGES:
        tops = [module.split(".")[2] for module in MODULES if package_of(module) == f"epochcast.{stage}"]
        packages = sorted({package_of(module).split(".", 2)[2] for module in _deeper(stage)})
        columns.append([stage, "", *tops, *([""] if packages else []), *(f"{name}/" for name in packages)])
    widths = [max(map(len, column)) for column in columns]
    rows = list(zip_longest(*columns, fillvalue=""))
    heads = " -> ".join(
        cell.ljust(width, "-" if i < len(STAGES) - 1 else " ")
        for i, (cell, width) in enumerate(zip(rows[0], widths, strict=True))
    )
    return "\n".join(
        [
            heads.rstrip(),
            *("    ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows[1:]),
        ]
    )


def _deeper(stage: str) -> list[str]:
    return [module for module in MODULES if package_of(module).startswith(f"epochcast.{stage}.")]


def _floors() -> str:
    there = defaultdict(set)
    for module in MODULES:
        if stage_of(module) is None and module != "epochcast.__main__":
            part = module.split(".")[1]
            there[floor_of(module)].add(f"{part}/" if (CODE_ROOT / "epochcast" / part).is_dir() else part)
    lines = [f"  {', '.join(sorted(there[n]))}" for n in reversed(range(len(FLOORS))) if there[n]]
    return "\n".join(["the library, whose floors import floors below them:", *lines])


def _arrows() -> str:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for module, names in graph().items():
        for name in names:
            if package_of(module) != package_of(name):
                counts[_short(module)][_short(name)] += 1
    lines = ["| package | imports from (number of imports) |", "|---|---|"]
    lines += [
        f"| `{package}` | {', '.join(f'{to} {n}' for to, n in sorted(counts[package].items()))} |"
        for package in sorted(counts)
    ]
    return "\n".join(lines) + "\n"


def _short(module: str) -> str:
    return package_of(module).removeprefix("epochcast.")


def written(page: str) -> str:
    """Return the page with its drawing made anew."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}{drawing()}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
