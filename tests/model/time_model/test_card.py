"""A model's card: read strictly, refused when anything in it was changed, and told to people in Markdown."""

from __future__ import annotations

import json
import math
import shutil
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epochcast.model.answers.prediction import predict
from epochcast.model.answers.prediction_text import prediction_lines
from epochcast.model.time_model.card import card_path, card_sha256, markdown_path, read_card
from epochcast.model.time_model.card_text import error_text, half_width_text, markdown
from epochcast.model.time_model.saved_model import Choice, load_model
from epochcast.paths import pretrained_dir
from epochcast.schema import RunConfig

SHIPPED = card_path(pretrained_dir() / "a100.keras")
CARD = json.loads(SHIPPED.read_text(encoding="utf-8"))


def write(tmp_path, card):
    path = tmp_path / "model.json"
    path.write_text(card if isinstance(card, str) else json.dumps(card), encoding="utf-8")
    return path


def sealed(**changes):
    """The shipped card with changes and a hash that fits them."""
    card = {**CARD, **changes}
    return {**card, "card_sha256": card_sha256(card)}


def refusal(path):
    with pytest.raises(ValueError) as caught:
        read_card(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert message.endswith("Train the model again.")
    return message


# --- read -------------------------------------------------------------------------------------------------------------


def test_the_cards_of_a_model_lie_beside_it(tmp_path):
    assert card_path(tmp_path / "box.keras") == tmp_path / "box.json"
    assert markdown_path(tmp_path / "box.keras") == tmp_path / "box.md"


def test_a_card_comes_back_as_it_was_written_in_any_order_of_its_fields(tmp_path):
    assert read_card(SHIPPED) == CARD
    turned = dict(reversed(CARD.items()))
    assert read_card(write(tmp_path, json.dumps(turned, indent=7))) == CARD


def leaves(value, path=()):
    """Where every single value of a nested card stands."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, (*path, key))
    else:
        yield path


def changed(value):
    """Another value of the same kind."""
    if value is None or isinstance(value, bool):
        return 3
    if isinstance(value, str):
        return value + " "
    return value + 1 if isinstance(value, int) else math.nextafter(value, math.inf)


LEAVES = [path for path in leaves(CARD) if path[0] not in ("schema_version", "feature_names")]


def test_a_change_of_any_single_value_is_refused_as_edited(tmp_path):
    assert len(LEAVES) > 100
    for path in LEAVES:
        card = deepcopy(CARD)
        inner = card
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = changed(inner[path[-1]])
        message = refusal(write(tmp_path, card))
        # a law whose name is not known is refused for that
        assert "edited since it was written (SHA-256 differs)" in message or path in (
            ("law", "form"),
            ("plain_law", "form"),
        ), path


def test_a_field_added_by_hand_is_refused_as_edited(tmp_path):
    assert "edited since it was written" in refusal(write(tmp_path, {**CARD, "note": "mine"}))


@pytest.mark.parametrize("version", [1, 3, None, "2"])
def test_a_card_of_another_version_is_refused_with_both(tmp_path, version):
    said = f"card of schema {version}, this version reads 2."
    assert said in refusal(write(tmp_path, sealed(schema_version=version)))


def test_a_card_from_before_versions_is_refused(tmp_path):
    assert "card of schema None" in refusal(write(tmp_path, {"law": [1, 2, 3]}))


def test_a_missing_card_is_not_trusted(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json: a model without its card can't be trusted"):
        read_card(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["{", "", "[1, 2]", '"card"'])
def test_what_is_no_json_object_is_refused(tmp_path, text):
    assert "not a model card: " in refusal(write(tmp_path, text))


def test_what_is_no_utf_8_is_refused(tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(b'{"a": "\x80"}')
    assert "not a model card: " in refusal(path)


@pytest.mark.parametrize(
    "name",
    [
        "law",
        "plain_law",
        "order_violations",
        "reason",
        "range",
        "keras_sha256",
        "errors",
        "conditions",
        "feature_names",
        "card_sha256",
        "intervals",
    ],
)
def test_a_card_that_lacks_a_field_is_refused_with_its_name(tmp_path, name):
    card = {key: value for key, value in CARD.items() if key != name}
    assert f"not a model card: {name} missing." in refusal(write(tmp_path, card))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"feature_names": ["depth", "params"]}, "the model takes ['depth', 'params'], this version gives ['depth', "),
        ({"feature_names": CARD["feature_names"][::-1]}, "the model takes ['log2_batch_size', "),
        ({"feature_mean": [1, 2]}, "feature_mean must be a list of 3, found [1, 2]"),
        ({"feature_scale": [0, 1, 1]}, "feature_scale[0] must be a number from 1e-30 to 1e+30, found 0"),
        ({"feature_low": ["a", 1, 1]}, "feature_low[0] must be a number, found 'a'; or null"),
        ({"feature_high": [1]}, "feature_high must be a list of 3, found [1]; or null"),
        ({"residual_scale": "1"}, "residual_scale must be a number, found '1'"),
        ({"residual_scale": True}, "residual_scale must be a number, found True"),
        ({"law": [1, 2]}, "law must be of a form of physics_6, "),
        ({"law": {"form": "physics_99"}}, "law must be of a form of physics_6, "),
        ({"law": {"form": "physics_6", "coefficients": [1, 2]}}, "law.coefficients must be a list of 6"),
        ({"law": {"form": "physics_6", "coefficients": [1] * 5 + [-1]}}, "law.coefficients[5] must be a number from 0"),
        ({"plain_law": None}, "plain_law must be of a form of physics_6, "),
        ({"range": {}}, "range must hold depth, base_filters, batch_size"),
        ({"range": {**CARD["range"], "depth": [1]}}, "range.depth must be a list of 2, found [1]"),
        ({"conditions": {"device": "A100"}}, "conditions must hold device_name, backend"),
        ({"conditions": None}, "conditions must hold device_name, backend"),
        ({"errors": {"n": 3}}, "errors must hold mape, p90_ape, mae, split, n, found {'n': 3}"),
        ({"intervals": {"within": 0.1}}, "intervals must hold within, beyond, n_levels, axes, n, coverage"),
        (
            {"intervals": {name: value for name, value in CARD["intervals"].items() if name != "axes"}},
            "intervals must hold within, beyond, n_levels, axes, n, coverage",
        ),
        ({"created_utc": 5}, "created_utc must be a time"),
    ],
)
def test_values_that_make_no_model_are_refused_also_with_the_right_hash(tmp_path, changes, said):
    assert f"not a model card: {said}" in refusal(write(tmp_path, sealed(**changes)))


def test_a_card_without_law_or_box_is_sound(tmp_path):
    card = sealed(law=None, feature_low=None, feature_high=None)
    assert read_card(write(tmp_path, card)) == card


HOSTILE = [
    None,
    [],
    {},
    "",
    "x",
    "A" * 3000,
    "\ud800",
    -1,
    0,
    0.5,
    5e-324,
    1e30,
    1e308,
    10**18,
    True,
    [[[]]],
    [1, 2, 3],
]


def inner(value, path=()):
    """Where every value of a nested card stands, lists and objects among them; the first three of a list."""
    if path:
        yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value[:3])
        for key, item in items:
            yield from inner(item, (*path, key))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(list(inner(CARD))), st.sampled_from(HOSTILE))
def test_whatever_a_sealed_card_holds_it_answers_or_is_refused(tmp_path_factory, path, value):
    file = tmp_path_factory.mktemp("card") / "model.keras"
    shutil.copy(pretrained_dir() / "a100.keras", file)
    card = deepcopy(CARD)
    place = card
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    if path != ("card_sha256",):
        card["card_sha256"] = card_sha256(card)
    card_path(file).write_text(json.dumps(card))
    try:
        saved = load_model(file)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 700
        return
    configs = [RunConfig(3, 32, 512), RunConfig(6, 32, 512), RunConfig(1, 1, 1)]
    for config in configs:
        answer = predict(config, Choice(saved, "named"), epochs=50)
        json.dumps(answer.to_json(), allow_nan=False)
        assert prediction_lines(answer)
    markdown(saved.card, "model").encode()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ' * 10_000, "9" * 400, '{"a": 1, "a": 2}', '{"a": NaN}', "1e999"]
)
def test_json_that_no_card_is_made_of_is_refused(tmp_path, text):
    assert "not a model card: " in refusal(write(tmp_path, text))


# --- words ------------------------------------------------------------------------------------------------------------


def test_errors_are_told_with_their_split_and_number():
    errors = {"mape": 0.0083, "p90_ape": 0.0164, "mae": 0.0254, "split": "5-fold by configuration", "n": 138}
    assert error_text(errors) == "MAPE 0.830 %, 90th percentile 1.64 %, MAE 0.0254 s (5-fold by configuration, n = 138)"
    assert error_text({**errors, "mape": None}) == "unknown: one configuration has nothing to be judged on"


def test_a_half_width_of_logs_is_told_in_percent():
    assert half_width_text(math.log(1.05)) == "±5.00 %"
    assert half_width_text(None) == "unknown"


# --- for people -------------------------------------------------------------------------------------------------------


def test_markdown_opens_with_front_matter_that_names_the_files_hashes():
    front, body = markdown(CARD, "a100").removeprefix("---\n").split("\n---\n", 1)
    fields = dict(line.split(": ", 1) for line in front.splitlines())
    assert fields["library_name"] == "keras"
    assert fields["pipeline_tag"] == "tabular-regression"
    assert json.loads(fields["model_name"]) == "a100"
    assert json.loads(fields["mape"]) == CARD["errors"]["mape"]
    assert (fields["keras_sha256"], fields["rows_sha256"]) == (CARD["keras_sha256"], CARD["rows_sha256"])
    assert body.startswith("\n# a100\n")


def test_markdown_names_range_rows_held_out_errors_intervals_and_limits():
    text = markdown(CARD, "a100")
    for axis, (low, high) in CARD["range"].items():
        assert f"- {axis}: {low} to {high}\n" in text
    assert "- held out of all fitting: (2,16,160), (3,32,320), (5,128,48), (4,64,640), (2,64,1280)\n" in text
    assert f"{CARD['n_configurations']} configurations, {CARD['n_runs']} runs" in text
    assert "device_name=NVIDIA A100 80GB PCIe" in text
    assert f"- declared, not in the table: {', '.join(CARD['declared'])}\n" in text
    assert CARD["credit"] in text
    assert error_text(CARD["errors"]) in text
    assert f"within the range: {half_width_text(CARD['intervals']['within'])}" in text
    intervals = CARD["intervals"]
    beyond = f"{half_width_text(intervals['beyond'])} (from {intervals['n_levels']} left-out levels; axes: depth, "
    assert beyond in text
    assert "two axes at once: unknown" in text
    assert f"on a grid of 324: {CARD['order_violations']}\n" in text
    for level in CARD["levels"]:
        assert level["label"] in text
    assert all(f"| {term} | {words} |" in text for term, words in CARD["plain_law"]["readings"].items())
    limits = text[text.index("## Limits") :]
    assert "It says nothing of" in limits
    assert "another GPU" in limits
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## What it rests on",
        "## What it is",
        "## How well it does",
        "## Limits",
    ]


def test_markdown_says_unknown_and_none_where_nothing_is_known():
    bare = {"held_out": [], "disturbed": [], "declared": [], "credit": None, "law": None, "levels": []}
    unknown = {"first_epoch_excess_sec": None, "overhead_sec": None, "reason": "because"}
    intervals = {**CARD["intervals"], "within": None, "beyond": None, "axes": []}
    text = markdown({**CARD, **bare, **unknown, "form": "physics", "intervals": intervals}, "x")
    assert "- held out of all fitting: none\n" in text
    assert "- left out as disturbed (over 22.1 % slower than the physics law): none\n" in text
    assert "- declared, not in the table: none\n" in text
    assert "First epoch beyond a steady one: unknown. Overhead of a process: unknown." in text
    assert "\n\nNote: because.\n" in text
    assert "left-out levels; axes: none)" in text
    assert "90 % interval within the range: unknown" in text
    few = markdown({**CARD, **bare, **unknown, "form": "physics", "intervals": {**intervals, "n": 7}}, "x")
    assert "90 % interval within the range: unknown (from 7 errors); 2 more configurations give a range\n" in few
    assert "None" not in text


def test_markdown_says_how_a_form_came_to_be_and_why_it_is_no_network_where_it_is_none():
    assert "Note:" not in markdown({**CARD, "reason": None}, "x")
    text = markdown({**CARD, "form": "transferred", "reason": "started from the six terms of y"}, "x")
    assert "started from those of another device's model" in text
    assert "Note: started from the six terms of y.\n" in text
