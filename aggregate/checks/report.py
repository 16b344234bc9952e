"""Every finding in a table of runs and in the averages of these runs, in order, as lines and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epochcast.aggregate.checks.averages import agg_findings, cache_of
from epochcast.aggregate.checks.lines import (
    CheckedRow,
    cells_read,
    lines_read,
    read_header,
    read_row,
    with_digits,
    with_steady,
)
from epochcast.aggregate.checks.rows import row_findings
from epochcast.aggregate.checks.rules import ERROR, RULES, WARNING, Finding
from epochcast.aggregate.checks.table import duplicate_findings, table_findings
from epochcast.paths import excluded_csv
from epochcast.schema import Exclusion, RunRecord
from epochcast.storage.files import read_bytes
from epochcast.storage.table_lines import is_empty
from epochcast.storage.tables import is_torn, parse_table, table_bytes, torn_file_of

SHOWN = 3  # findings of a rule on the screen, unless all are asked for


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found, ordered by rule and line. `rows` are those that could be read, excluded ones left out."""

    n_lines: int  # below the header, blank ones not counted
    rows: list[CheckedRow]
    n_excluded: int
    names: list[str]  # columns of the table; none where its header could not be read
    findings: list[Finding]

    def count(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def verdict(self) -> str:
        of = f"in {self.n_lines} rows" + (f" ({self.n_excluded} excluded)" if self.n_excluded else "")
        if not self.findings:
            return f"no finding {of}"
        return f"{_counted(self.count(ERROR), ERROR)}, {_counted(self.count(WARNING), WARNING)} {of}"


def _counted(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def check_lines(lines: Sequence[str], file: str = "runs.csv", excluded: frozenset[str] = frozenset()) -> CheckReport:
    """Check a table given as its lines, ends included. Runs excluded need only be readable and stand once."""
    names, findings = read_header(lines[0] if lines else "", file)
    rows: list[CheckedRow] = []
    n_lines = 0
    for number, line in enumerate(lines[1:], start=2):
        if is_empty(line):
            continue
        n_lines += 1
        if not names:
            continue
        if number == len(lines) and is_torn(line, RunRecord):
            found = f"no line end: {line[:60]!r}"
            findings.append(Finding("torn", file, number, None, None, found, "a whole line"))
            continue
        row, wrong = read_row(line, number, names, file)
        findings += wrong
        if row is not None:
            rows.append(row)
    rows = with_digits(rows)
    findings += duplicate_findings(rows)
    kept = with_steady([row for row in rows if row.record.run_id not in excluded])
    for row in kept:
        findings += row_findings(row)
    findings += table_findings(kept)
    return CheckReport(n_lines, kept, len(rows) - len(kept), names, _in_order(findings))


def _in_order(findings: Sequence[Finding]) -> list[Finding]:
    order = {name: i for i, name in enumerate(RULES)}
    return sorted(findings, key=lambda finding: (order[finding.rule], finding.file, finding.line or 0))


def check_file(path: Path, runs_agg: Path | None = None) -> CheckReport:
    """Check a runs.csv with the excluded.csv and the table of averages beside it (or the one named).

    Raises:
        OSError: if a file can't be read.
    """
    path = path.absolute()
    lines = lines_read(table_bytes(path))
    excluded, findings = _read_exclusions(path)
    report = check_lines(lines, path.name, frozenset(excluded))
    findings += _moved_aside(path)
    if report.names:
        unknown = set(excluded) - _run_ids(lines, report.names)
        file = excluded_csv(path).name
        findings += [
            Finding("excluded", file, excluded[run_id], None, run_id, "a run that is not in the table", "one that is")
            for run_id in sorted(unknown)
        ]
    agg = cache_of(path) if runs_agg is None else runs_agg.absolute()
    if runs_agg is not None or agg.is_file():
        findings += agg_findings(agg, path, report.rows, is_named=runs_agg is not None)
    return CheckReport(
        report.n_lines, report.rows, report.n_excluded, report.names, _in_order([*report.findings, *findings])
    )


def _moved_aside(path: Path) -> list[Finding]:
    """One finding for each line that appends moved out of the table, as it had no line end."""
    file = torn_file_of(path)
    try:
        lines = read_bytes(file).decode(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    return [
        Finding(
            "torn", file.name, number, None, None, f"a line moved out of {path.name}: {line[:60]!r}", "no such file"
        )
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _run_ids(lines: Sequence[str], names: Sequence[str]) -> set[str]:
    """All run_ids of a table, those of rows with bad cells among them."""
    if "run_id" not in names:
        return set()
    at = names.index("run_id")
    return {cells[at] for line in lines[1:] if len(cells := cells_read(line)) > at}


def _read_exclusions(runs: Path) -> tuple[dict[str, int], list[Finding]]:
    """Lines of the excluded run_ids; none, and a finding, where excluded.csv can't be read."""
    path = excluded_csv(runs)
    if not path.exists():
        return {}, []
    raw = table_bytes(path)
    try:
        run_ids = [exclusion.run_id for exclusion in parse_table(path, raw, Exclusion)]
    except ValueError as error:
        return {}, [Finding("excluded", path.name, None, None, None, str(error), "run_id,reason,date")]
    numbers = [n for n, line in enumerate(lines_read(raw), start=1) if not is_empty(line)][1:]
    return dict(zip(run_ids, numbers, strict=False)), []


# --- report ----------------------------------------------------------------------------------------------------------


def report_lines(report: CheckReport, shown: int | None = SHOWN) -> list[str]:
    """A line per rule with its count (`-`: no such column), then at most `shown` findings of each, then the verdict."""
    counts = Counter(finding.rule for finding in report.findings)
    lines = []
    for name, rule in RULES.items():
        is_open = not report.names if rule.needs is None else rule.needs not in report.names
        count = "-" if is_open and not counts[name] else str(counts[name])
        lines.append(f"{count:>5}  {rule.severity:<7}  {name:<14}  {rule.what}")
    for name, rule in RULES.items():
        findings = [finding for finding in report.findings if finding.rule == name]
        if not findings:
            continue
        lines += ["", f"{name}: {_counted(len(findings), rule.severity)}. {rule.remedy}"]
        few = findings if shown is None or len(findings) <= shown + 1 else findings[:shown]
        lines += [f"  {finding.where}: {finding.found}; expected {finding.expected}" for finding in few]
        if len(few) < len(findings):
            lines.append(f"  and {len(findings) - len(few)} more: --all")
    return [*lines, "", f"verdict: {report.verdict}"]


def report_json(report: CheckReport) -> dict[str, Any]:
    counts = Counter(finding.rule for finding in report.findings)
    return {
        "rows": report.n_lines,
        "rows_checked": len(report.rows),
        "rows_excluded": report.n_excluded,
        "errors": report.count(ERROR),
        "warnings": report.count(WARNING),
        "rules": {name: counts[name] for name in RULES},
        "findings": [finding.to_json() for finding in report.findings],
    }


def rules_json() -> list[dict[str, str]]:
    return [{"rule": n, "severity": r.severity, "what": r.what, "remedy": r.remedy} for n, r in RULES.items()]


def rule_lines() -> list[str]:
    return [f"{name:<14}  {rule.severity:<7}  {rule.what}" for name, rule in RULES.items()]
