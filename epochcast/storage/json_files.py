"""JSON, read strictly: what is no plain JSON value is a ValueError of one sentence, never another error."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from epochcast.storage.files import read_text
from epochcast.validation import LARGEST_WHOLE

_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a pair that UTF-16 needs for one character


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; names stand once in an object, numbers are finite.

    Raises:
        ValueError: says what is wrong, and in which line where the text is no JSON.
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
        if _HALF.search(text if isinstance(text, str) else text.decode(errors="replace")):
            json.dumps(value, ensure_ascii=False).encode()  # a half alone is no text that a file could hold
        return value
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"not JSON that can be used: half of a character, {error.object[error.start]!a}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not JSON: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except RecursionError:
        raise ValueError("not JSON that can be read: nested too deeply") from None


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it can't be read, or is no regular file.
        ValueError: names the file and what is wrong.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path.absolute()}: {error}.") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, n in counts.items() if n > 1)
        raise ValueError(f"{twice[:60]!r} stands twice in one object")
    return values


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) > LARGEST_WHOLE:
        raise ValueError(f"the number {text[:20]}... of {len(text)} digits is too large")
    return value
