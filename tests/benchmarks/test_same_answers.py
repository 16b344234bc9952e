"""Comparison of the answers of two trees: what is equal, renamed, reworded, different, missing or new."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks.answers.comparison import MASKED, Mask, Tolerance, findings, masked
from benchmarks.answers.invocations import A100, ANSWERS, OLD_A100, OLD_FILES, VOLATILE
from benchmarks.same_answers import require_answers, worktree
from epochcast.__main__ import COMMANDS


def kinds(before, after, **settings):
    """The kind of each place that is not equal."""
    return {f.where: f.kind for f in findings(before, after, **settings) if f.kind != "equal"}


def test_equal_answers_give_one_equal_finding_for_each_value():
    answer = {"rows": [{"a": 1, "b": None}, {"a": 2.5, "b": "text"}], "ok": True}
    assert [f.kind for f in findings(answer, answer)] == ["equal"] * 5


@pytest.mark.parametrize(
    ("before", "after"),
    [(1.0, 1.0000001), (1, 2), (1, True), (0, False), (None, 0), ("a", "b"), ("3 s", "4 s"), ([1], 1), ({"a": 1}, [])],
)
def test_values_that_differ_are_different(before, after):
    assert kinds({"x": before}, {"x": after}) == {"/x": "different"}


def test_missing_and_new_keys_and_items_are_named():
    assert kinds({"a": 1, "b": {"c": 2}}, {"b": {}, "d": 3}) == {"/a": "missing", "/b/c": "missing", "/d": "new"}
    assert kinds([1, 2, 3], [1]) == {"/1": "missing", "/2": "missing"}
    assert kinds([], [{"name": "disk"}]) == {"/disk": "new"}


def test_a_renamed_key_is_looked_for_under_its_new_name_and_its_value_compared():
    renamed = {"place": "domain"}
    assert kinds({"place": "within"}, {"domain": "within"}, renamed=renamed) == {"/place": "renamed"}
    assert kinds({"place": 1}, {"domain": 2}, renamed=renamed) == {"/place": "different"}
    assert kinds({"place": 1, "domain": 2}, {"place": 1, "domain": 2}, renamed=renamed) == {}
    assert kinds({"place": 1}, {"elsewhere": 1}, renamed=renamed) == {"/place": "missing", "/elsewhere": "new"}


def test_a_tolerance_is_for_numbers_only_and_also_within_text():
    tolerance = Tolerance(relative=1e-6)
    assert kinds({"a": 1.0, "b": "0.5 s"}, {"a": 1.0 + 5e-7, "b": "0.5000001 s"}, tolerance=tolerance) == {}
    assert kinds({"a": 1.0}, {"a": 1.0 + 5e-6}, tolerance=tolerance) == {"/a": "different"}
    assert kinds({"a": 0.0}, {"a": 1e-9}, tolerance=tolerance) == {"/a": "different"}
    assert kinds({"a": 0.0}, {"a": 1e-9}, tolerance=Tolerance(absolute=1e-8)) == {}


def test_a_sentence_of_other_words_with_the_same_numbers_is_reworded():
    assert kinds(["4 of 45 rows left out"], ["4 of 45 rows omitted"]) == {"/0": "reworded"}
    assert kinds(["4 of 45 rows left out"], ["5 of 45 rows left out"]) == {"/0": "different"}
    assert kinds(["within"], ["inside"]) == {"/0": "different"}  # a word is a value


def test_a_mask_takes_all_of_a_value_or_what_its_pattern_matches():
    masks = (Mask("doctor/*/load", "live"), Mask("grid/lines/*", "time", r"\d\d:\d\d"))
    doctor = {"checks": {"load": 3.1, "disk": 5}}
    assert masked(doctor, masks, "doctor") == {"checks": {"load": MASKED, "disk": 5}}
    assert masked({"lines": ["until 09:30, 2 runs"]}, masks, "grid") == {"lines": [f"until {MASKED}, 2 runs"]}
    assert masked(doctor, masks, "other") == doctor
    assert masked({"exit": 0, "lines": []}, (Mask("grid/*", "a name", "plan-[0-9a-f]{8}"),), "grid") == {
        "exit": 0,  # a pattern is for text alone
        "lines": [],
    }


def test_every_command_but_those_that_measure_is_asked():
    every = (*ANSWERS, *A100, *OLD_FILES, *OLD_A100)
    asked = {invocation.arguments.split()[0] for invocation in every}
    assert asked == set(COMMANDS) - {"run", "demo", "estimate", "tune"}
    names = [invocation.name for invocation in every]
    assert len(names) == len(set(names))
    assert all(mask.reason for mask in VOLATILE)


@pytest.fixture
def repository(tmp_path):
    """A repository of one commit, of one file."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "a.txt").write_text("old\n", encoding="utf-8")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "a.txt"], [*who, "commit", "-q", "-m", "First"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    (folder / "a.txt").write_text("new\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt, ValueError])
def test_the_worktree_holds_the_commit_and_is_gone_afterwards_also_on_ctrl_c(repository, tmp_path, stop):
    try:
        with worktree("HEAD", tmp_path / "before", repository) as code:
            assert (code / "a.txt").read_text(encoding="utf-8") == "old\n"
            if stop is not None:
                raise stop
    except (KeyboardInterrupt, ValueError):
        assert stop is not None
    assert not (tmp_path / "before").exists()
    listed = subprocess.run(["git", "worktree", "list"], cwd=repository, check=True, capture_output=True, text=True)
    assert len(listed.stdout.splitlines()) == 1
    assert (repository / "a.txt").read_text(encoding="utf-8") == "new\n"


def test_a_commit_that_does_not_exist_is_named(repository, tmp_path):
    with pytest.raises(ValueError, match="'no-such'"), worktree("no-such", tmp_path / "before", repository):
        pass


def test_an_older_tree_that_fails_where_it_should_answer_is_named():
    require_answers({"plan home": {"exit": 0}, "plan none": {"exit": 1}, "doctor": {"exit": 1}})
    with pytest.raises(ValueError, match=r"train a100 \(exit 1: no such table\); plan none \(exit 0: \)\.$"):
        require_answers({"train a100": {"exit": 1, "error": ["no such table"]}, "plan none": {"exit": 0}})
