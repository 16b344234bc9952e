"""Every text that is no plain JSON value is a ValueError of one sentence that names its file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epochcast.storage.json_files import parse_json, read_json

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(plain, st.booleans())
def test_what_json_writes_is_what_is_read(value, is_ascii):
    assert parse_json(json.dumps(value, ensure_ascii=is_ascii)) == value


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_a_value_or_one_kind_of_error(raw):
    try:
        parse_json(raw)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 50_000, "nested too deeply"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ('[{"b": {"c": 1, "c": 1}}]', "'c' stands twice"),
        ("[NaN]", "NaN is no JSON number"),
        ("-Infinity", "-Infinity is no JSON number"),
        ("1e999", "too large"),
        ("1" * 300, "of 300 digits is too large"),
        ("1" * 9000, "of 9000 digits is too large"),
        (r'["\ud800"]', "half of a character"),
        ("{", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_what_can_not_be_used_is_said_in_a_sentence(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a\.json") as caught:
        read_json(path)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300
