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


def test_twelve_changes_are_each_told_where_to_go():
    table = TEXT.split("## Where do I change ...?")[1]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 12
    assert all(re.search(r"`[\w./]+\.(py|csv)`", row.split("|")[2]) for row in rows)
