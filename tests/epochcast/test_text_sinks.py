"""Whatever characters a name holds: nothing acts on them where it is shown."""

from __future__ import annotations

import io
import json
import logging
import re
import shlex
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epochcast.aggregate.figures import accuracy_against_time, draw_figures
from epochcast.cli import make_parser, print_answer, run_command
from epochcast.collect.run.flags import output_printer
from epochcast.guard import discard_unwritten
from epochcast.model.answers.prediction import predict
from epochcast.model.answers.prediction_figure import draw_batches
from epochcast.model.evaluation.report_text import Section
from epochcast.model.time_model.card_text import markdown
from epochcast.model.time_model.saved_model import Choice, load_model
from epochcast.output.figures import save_figure
from epochcast.output.streams import EscapedStream, escaped_output, rewrite_line
from epochcast.output.text import cell_text, table_text
from epochcast.paths import CODE_ROOT, pretrained_dir
from epochcast.planner.costs.budget import SECONDS
from epochcast.planner.output.exports import plan_sh
from epochcast.schema import RunConfig
from epochcast.text_sinks import (
    LONGEST_FIGURE_LINE,
    figure_text,
    markdown_text,
    one_line,
    terminal_text,
    without_colours,
    yaml_text,
)
from tests.support.rows import agg_row

NASTY = "\x1b]0;owned\x07\x1b[2J\r\b\x9b31m\u202e\u2066\ud800\x7f"
PIECES = [NASTY, "\x1b[31m", "$", "$^$", "_x", "\\", "<b>", "](", "![x](y)", "|", "`", "```", "\n", "---", "\n---\n# x",
          "&lt;", "<!--", "-->", "]]>", "\ufffe", "\ufdd0", "漢", "é", "😀", "\U000e0041", "\u2028"]  # fmt: skip
ANY_TEXT = st.lists(st.one_of(st.sampled_from(PIECES), st.text(st.characters(), max_size=8)), max_size=6).map("".join)
many = settings(max_examples=150, deadline=None, derandomize=True)
few = settings(max_examples=4, deadline=None, derandomize=True)  # a figure takes a tenth of a second


def is_obeyed(character):
    """Whether a terminal may do something else with a character than show it."""
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in (
        *("LRE", "RLE", "LRO", "RLO", "PDF"),
        *("LRI", "RLI", "FSI", "PDI"),
    )


# --- terminal --------------------------------------------------------------------------------------------------------


@many
@given(ANY_TEXT)
@example(NASTY)
def test_a_terminal_gets_nothing_that_it_would_obey(text):
    shown = terminal_text(text)
    assert not [c for c in shown if is_obeyed(c) and c not in "\n\t"]
    assert terminal_text(shown) == shown
    assert not [c for c in one_line(text) if is_obeyed(c)]
    assert "\n" not in cell_text(text)
    shown.encode()  # no half of a character is left


@pytest.mark.parametrize("text", ["plain", "é 漢 😀 ±5 % → µs", "two\nlines\tand a tab", 'C:\\x "quoted"'])
def test_plain_text_stays_as_it_is(text):
    assert terminal_text(text) == text


@many
@given(ANY_TEXT)
def test_no_command_prints_what_a_terminal_would_obey(text):
    streams = io.StringIO(), io.StringIO()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams
    try:

        def work():
            print(text)
            sys.stderr.writelines([text, text])
            print_answer({"name": text}, as_json=False)
            print(table_text(["name", "s"], [[text, 1.0]]))
            raise ValueError(text)

        code = run_command(work)
        assert (sys.stdout, sys.stderr) == streams
    finally:
        sys.stdout, sys.stderr = before
    assert code == 1
    for stream in streams:
        assert not [c for c in stream.getvalue() if is_obeyed(c) and c not in "\n\t"]


@many
@given(ANY_TEXT)
def test_json_is_the_same_after_it_was_escaped(text):
    stream = io.StringIO()
    EscapedStream(stream).write(json.dumps({text: text}))
    assert json.loads(stream.getvalue()) == {text: text}


def test_warnings_and_errors_of_flags_are_escaped(capsys, monkeypatch):
    parser = make_parser("epochcast x", "", "epochcast x")
    with pytest.raises(SystemExit):
        parser.parse_args([NASTY])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    run_command(lambda: logging.getLogger("epochcast").warning("%s", NASTY) or 0)
    told = capsys.readouterr().err
    assert "owned" in told
    assert not [c for c in told if is_obeyed(c) and c != "\n"]


def test_a_measuring_process_does_not_colour_the_terminal(capsys):
    output_printer()(b"\x1b[31mred\x1b[0m\nkeys \x1b[201~\xff\x9b\n")
    assert capsys.readouterr().err == "red\nkeys \\x1b[201~\ufffd\ufffd\n"
    assert without_colours("\x1b[1;38:5:3mx\x1b[m") == "x"


def test_only_our_own_progress_goes_back_in_its_line():
    stream = io.StringIO()
    rewrite_line(EscapedStream(stream), f"{NASTY}50 %", is_last=False)
    rewrite_line(stream, "done", is_last=True)
    first, second = re.findall("\r\033\\[K([^\r]*)", stream.getvalue())
    assert first == f"{one_line(NASTY)}50 %"
    assert second == "done\n"


def test_streams_that_are_closed_or_escaped_already_stay(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with escaped_output():
        assert sys.stderr is None
        outer = sys.stdout
        with escaped_output():
            assert sys.stdout is outer
        assert isinstance(outer, EscapedStream)
        assert not outer.isatty()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("outlives_readers", [True, False])
def test_only_an_answer_that_nobody_can_read_is_a_failure(stream, outlives_readers, monkeypatch, capfd):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def work():
        for _ in range(3):
            print("x" * 10_000, file=getattr(sys, stream), flush=True)
            logging.getLogger("epochcast").warning("x")
        return 0

    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, stream, full)
        is_failure = stream == "stdout" and not outlives_readers
        assert run_command(work, outlives_readers=outlives_readers) == is_failure
        discard_unwritten(full)
    says = "error: standard output: No space left on device."
    assert (says in capfd.readouterr().err) == is_failure


# --- Markdown --------------------------------------------------------------------------------------------------------


@many
@given(ANY_TEXT)
def test_markdown_holds_no_markup_from_outside(text):
    shown = markdown_text(text)
    assert not re.search(r"[<>\n\t]", shown)
    assert not re.search(r"(?<!\\)(\\\\)*[\[\]`|*$~]", shown)  # each with an odd number of backslashes before it
    assert "](" not in re.sub(r"\\.", "", shown)
    assert not re.match(r"\s*([#+-]\s|[-=]{2}|\d+[.)]\s)", shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB"),
        ("train_n=50000, _x_", r"train_n=50000, \_x\_"),
        ("# a", r"\# a"),
        ("12. a", r"12\. a"),
        ("---", r"\---"),
        ("-3.2 s", "-3.2 s"),
        ("a & <b>", "a &amp; &lt;b&gt;"),
        ("a\nb", r"a\\nb"),
    ],
)
def test_markdown_shows_names_as_they_are(text, shown):
    assert markdown_text(text) == shown


@many
@given(ANY_TEXT)
def test_a_value_of_front_matter_is_one_line_of_json(text):
    assert json.loads(yaml_text(text)) == one_line(text)
    assert yaml_text(text).isprintable() or not [c for c in yaml_text(text) if is_obeyed(c)]


@few
@given(ANY_TEXT)
def test_the_card_and_the_report_hold_no_markup_from_outside(text):
    plain = markdown(named("x"), "x"), Section("a", ["b"], [["x"]], ["x"]).markdown()
    given = markdown(named(text), text), Section("a", ["b"], [[text]], [text]).markdown()
    for with_plain, with_text in zip(plain, given, strict=True):
        bare = re.sub(r"\\\\.", "", with_text)
        for mark in ("<", "](", "!["):
            assert bare.count(mark) == with_plain.count(mark)
        assert len(with_text.splitlines()) == len(with_plain.splitlines())
        assert [line.count("|") for line in bare.splitlines()] == [line.count("|") for line in with_plain.splitlines()]


def named(text):
    """A card in which everything that others name is called `text`."""
    card = json.loads((pretrained_dir() / "a100.json").read_text(encoding="utf-8"))
    conditions = card["conditions"] | dict.fromkeys(("device_name", "backend", "backend_version", "dataset"), text)
    readings = card["plain_law"] | {"readings": {"per_epoch": text}}
    errors = card["errors"] | {"split": text}
    named = {"credit": text or "x", "reason": text or "x", "declared": [text], "versions": {text: text}}
    return card | named | {"conditions": conditions, "plain_law": readings, "errors": errors}


# --- figures ---------------------------------------------------------------------------------------------------------


@many
@given(ANY_TEXT)
def test_xml_holds_the_text_of_a_figure(text):
    root = ElementTree.Element("text")
    root.text = figure_text(text)
    assert ElementTree.fromstring(ElementTree.tostring(root)).text == (figure_text(text) or None)


def test_long_lines_of_a_figure_are_cut():
    lines = figure_text("x" * 1000 + "\ny").split("\n")
    assert [len(line) for line in lines] == [LONGEST_FIGURE_LINE, 1]


@few
@given(ANY_TEXT)
@example("$")
@example(f"a $^$ {NASTY} --> <b>")
def test_a_figure_of_any_device_is_made(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("figures")
    figure = accuracy_against_time([agg_row(acc_mean=0.5)])
    (axes,) = figure.axes
    axes.set(title=text, xlabel=text)
    axes.legend(handles=axes.lines, labels=[text], title=text)
    figure.suptitle(text)
    _, svg = save_figure(figure, folder, "a")
    root = ElementTree.parse(svg).getroot()
    assert root.tag.endswith("svg")
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_figures_of_a_table_and_of_an_answer_survive_a_name_of_anything(tmp_path):
    name = f"$^$ {NASTY}"
    rows = [agg_row(batch_size=n, device_name=name) for n in (64, 128)]
    paths, _ = draw_figures(rows, tmp_path)
    shipped = load_model(pretrained_dir() / "a100.keras")
    card = {**shipped.card, "conditions": {**shipped.card["conditions"], "device_name": name}}
    choice = Choice(replace(shipped, card=card), "named")
    answers = [predict(RunConfig(2, 16, n), choice) for n in (64, 128)]
    paths += save_figure(draw_batches(answers), tmp_path, "answer")
    for path in paths:
        if path.suffix == ".svg":
            ElementTree.parse(path)


# --- shell -----------------------------------------------------------------------------------------------------------


@many
@given(ANY_TEXT)
def test_the_commands_of_a_plan_are_its_runs_and_nothing_else(text):
    spec = {"depth": 2, "base_filters": 16, "batch_size": 64, "epochs": 2, "data_dir": text or None}
    chosen = {"spec": spec, "run_id": text}
    plan = {"plan_id": text, "total_sec": 1.0, "budget": 2.0, "budget_unit": SECONDS.name, "chosen": [chosen]}
    plan["conditions"] = {"backend": text or None}
    words = shlex.split(plan_sh(plan), comments=True)
    assert words[:5] == ["[", "-n", "${PYTHON:-}", "]", "||"]
    assert words[5] == f"PYTHON={sys.executable}"
    if text:
        assert words[6:8] == ["export", f"KERAS_BACKEND={text}"]
        del words[6:8]
    assert words[6:8] == ["$PYTHON", str(CODE_ROOT / "collect" / "run_one.py")]
    assert words[-1] == text
