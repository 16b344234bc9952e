"""Text from outside on its way out: one function for each place where a program would act on some of its characters.

Names of devices, networks and files, cells of tables, cards and plans, and what drivers and measuring processes say are
written by others. A terminal obeys escape sequences, Markdown holds HTML and links, XML has no control characters, and
matplotlib reads mathematics between dollar signs.

CSV tables are no such place: their cells stay as they are, since `runs.csv` must be read back to the same row. A
spreadsheet that opens one takes a cell that begins with `=`, `+`, `-` or `@` for a formula: import it as text.
"""

from __future__ import annotations

import json
import re

# Controls (C0 but for tab and line end, DEL, C1), what turns the direction of writing (UAX #9), line ends of Unicode,
# halves of characters, the byte order mark and what is no character, tags: no terminal is safe with all of them, and
# the forbidden ones of XML 1.0 (section 2.2) and YAML 1.2 (section 5.1) are among them.
_UNPRINTABLE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff"
    "\U000e0000-\U000e007f]"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")  # within a word `_` marks nothing up
_BEGINS_BLOCK = re.compile(r"[#+-](?=\s)|[-=]{2,}|\d{1,9}(?=[.)]\s)")  # a heading, a list, a rule
_UNINDENTED = re.compile(r"\n(?!  )")
LONGEST_WORD = 300  # characters of a message
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")
LONGEST_FIGURE_LINE = 160  # characters; a longer one leaves a figure no room


# --- one line, and a terminal ----------------------------------------------------------------------------------------


def terminal_text(text: str) -> str:
    """Text with everything escaped (`\\x1b`) that a terminal would obey; line ends and tabs stay."""
    return _UNPRINTABLE.sub(_escape, text)


def one_line(text: str) -> str:
    """`terminal_text` of a value that stands within a line: its line ends and tabs are escaped as well."""
    return terminal_text(text).replace("\n", "\\n").replace("\t", "\\t")


def shortened(text: str, most: int = 100) -> str:
    """A text of a file's, or of a library's about it, for a message: one line without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * most]).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def message_text(text: str) -> str:
    """A message on its way to a terminal: only lines that are indented by two spaces follow the first one.

    A line end in a name would begin a message of its own. What is too long, such as a path, is cut in the middle.
    """
    text = _LONG_WORD.sub(lambda match: f"{match[0][: LONGEST_WORD // 2]}...{match[0][-LONGEST_WORD // 2 :]}", text)
    return _UNINDENTED.sub(r"\\n", terminal_text(text))


def without_colours(text: str) -> str:
    """Text without the escape sequences that colour it."""
    return _COLOUR.sub("", text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    # DEL is the one control character that JSON leaves as it is; this form is right within JSON, too
    return f"\\x{code:02x}" if code < 0x100 and code != 0x7F else f"\\u{code:04x}"


# --- Markdown, its front matter, and figures -------------------------------------------------------------------------


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, link, image, code, table cell or mathematics begins or ends in it.

    An address alone becomes a link on some sites; it shows where it leads, so it stays.
    """
    text = one_line(text).strip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _MARKDOWN.sub(r"\\\g<0>", text)
    if begin := _BEGINS_BLOCK.match(text):
        at = begin.end() if begin[0].isdecimal() else 0
        text = f"{text[:at]}\\{text[at:]}"
    return text


def yaml_text(text: str) -> str:
    """Text as a quoted YAML value on one line, which is JSON as well."""
    return json.dumps(one_line(text), ensure_ascii=False)


def figure_text(text: str) -> str:
    """Text for a figure: what XML can't hold is escaped, and lines that would leave the axes no room are cut."""
    lines = terminal_text(text).split("\n")
    return "\n".join(
        line if len(line) <= LONGEST_FIGURE_LINE else line[: LONGEST_FIGURE_LINE - 1] + "…" for line in lines
    )
