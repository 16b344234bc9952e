"""docs/architecture.md says what is there: its drawing is of these imports, its paths lead to files."""

from __future__ import annotations

import re

from epochcast.paths import CODE_ROOT
from tests.support.draw_architecture import PAGE, written

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_drawing_is_the_one_that_make_architecture_makes():
    assert written(TEXT) == TEXT, "say `make architecture`"


def test_every_path_leads_to_a_file():
    paths = set(re.findall(r"`([\w./]+/[\w./]*)`", TEXT))
    assert len(paths) > 30
    missing = sorted(path for path in paths if not (CODE_ROOT / path).exists())
    assert missing == []


def test_every_file_of_ours_that_a_text_or_a_source_names_exists():
    named = re.compile(r"\b((?:benchmarks|tests|epochcast|docs)/[\w/.-]+\.(?:py|md|csv|sh))\b")
    folders = ("benchmarks", "docs", "tests", "epochcast", "planner", "model", "collect", "aggregate", "workload")
    files = [CODE_ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile")]
    for folder in folders:
        files += [
            path for path in (CODE_ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".csv", ".c", ".sh")
        ]
    texts = {
        path: path.read_text(encoding="utf-8") for path in files if (CODE_ROOT / "tests" / "data") not in path.parents
    }
    missing = {
        (str(path.relative_to(CODE_ROOT)), name)
        for path, text in texts.items()
        for name in named.findall(text)
        if not (CODE_ROOT / name).exists() and not (path.parent / name).exists()
    }
    assert len(texts) > 400
    assert missing == set()


def test_thirteen_changes_are_each_told_where_to_go():
    table = TEXT.split("## Where do I change ...?")[1]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 13
    assert all(re.search(r"`[\w./]+\.(py|csv)`", row.split("|")[2]) for row in rows)
