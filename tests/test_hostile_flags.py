"""No value of any flag of any sub-command ends in a traceback: it is taken, or refused by a sentence that names it."""

from __future__ import annotations

import pytest

from epochcast.__main__ import COMMANDS, main
from tests.support.parsers import EVERY_COMMAND, flags_with_a_value, parser_of

DIGITS = "9" * 300
HOSTILE = (
    *(
        "",
        " ",
        "\t",
        "\n",
        "-",
        "--",
        ",",
        ":",
        ";",
        "=",
        "/",
        ".",
        "..",
        "~",
        "0",
        "-0",
        "-1",
        "+1",
        "00",
        "0x10",
        "1_0",
    ),
    *(
        "1e3",
        "1e308",
        "1e400",
        "1e-320",
        "-1e308",
        "nan",
        "inf",
        "-inf",
        "Infinity",
        "None",
        "null",
        "true",
        "[]",
        "{}",
    ),
    *(DIGITS, f"-{DIGITS}", "9" * 5000, f"0.{DIGITS}", f"{DIGITS}s", f"{DIGITS}w", f"{DIGITS}GB", "1e308GiB", "1e308s"),
    *(f"1:{DIGITS}", f"1:{10**12}:1", f"1:{DIGITS}:x2", f"1:2:{DIGITS}", f"2:{DIGITS}:x{DIGITS}", "1," * 20_000 + "1"),
    *(
        "\uff13",  # a digit three of full width, and other digits that int takes
        "\uff11\uff12",
        "\u0663",
        "\u00b2",
        "1\u00a02",
        "é",
        "\udcff",
        "\x00",
        "a\x00b",
        "\x1b[31m",
        "\u202e",
        "%s %(x)d {x}",
        "$(id)",
        "`id`",
    ),
    *("~nosuchuser", "~nosuchuser/x", "/dev/null/x", "/proc/self/mem", "loop", "loop/x", "x" * 5000),
    *(
        "a=b",
        "a=b,a=c",
        "depth=3,depth=4",
        "=",
        "a=",
        "=b",
        "depth=\x00",
        "GPU-\udcff",
        "gpu:" + DIGITS,
        ";;",
        "DE,,FR",
    ),
)
REQUIRED = {
    "merge": ("a.csv", "b.csv", "--out", "c.csv"),
    "plan": ("--budget", "1h"),
    "run_plan": ("plan.json",),
    "compare": ("a.csv", "b.csv"),
    "estimate": ("train.py",),
    "tune": ("train.py",),
    "mlperf extract": ("v4.0", "--out", "records.csv"),
    "mlperf predict": ("bert on 8 H100",),
    "mlperf train": ("records.csv",),
}


@pytest.fixture
def only_parsing(monkeypatch, home):
    """Commands that stop where their work would begin, in a folder with a circle of links."""
    monkeypatch.chdir(home)
    (home / "loop").symlink_to("loop")
    for module, _ in COMMANDS.values():
        monkeypatch.setattr(f"{module}.run_command", lambda work, **how: 0)


def ends_well(argv, capsys):
    """Give a command line to the door; fail unless it ends with an exit code and, where refused, with a sentence."""
    try:
        code = main(argv)
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    shown = [word[:80] for word in argv]
    assert code in (0, 1, 2), shown
    assert "unexpected" not in err and "Traceback" not in err, (shown, err)
    if code:
        assert err.startswith("error: "), (shown, err)
        assert out == "", shown
        assert len(err) < 2500 or len(" ".join(argv)) > 2000, (shown, err)  # facts list what they know


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_no_value_of_a_flag_is_a_traceback(command, only_parsing, capsys):
    """Each value by the command's parser; what that takes goes on to the checks of flags against each other."""
    parser = parser_of(command)
    for flag in flags_with_a_value(parser):
        for value in HOSTILE:
            argv = [f"{flag}={value}"] if flag else [value]
            try:
                parser.parse_args([*argv, *REQUIRED.get(command, ())])
            except SystemExit as end:
                assert end.code == 2
                out, err = capsys.readouterr()
                assert out == ""
                assert err.startswith("error: ")
            else:
                ends_well([*command.split(), *argv, *REQUIRED.get(command, ())], capsys)
