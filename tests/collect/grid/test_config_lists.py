"""Lists of configurations: what is read is what was listed, each once; the rest is an error that says where."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epochcast.collect.grid import config_lists
from epochcast.collect.grid.config_lists import NAMES, read_configs, read_specs
from epochcast.schema import SPEC_CHOICES, RunConfig, RunSpec

HEADER = "depth,base_filters,batch_size\n"


def write(tmp_path, text, name="list.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --- what is listed --------------------------------------------------------------------------------------------------


def test_runs_come_from_csv_with_the_rest_from_the_flags(tmp_path):
    path = write(tmp_path, "\ufeffdepth,base_filters,batch_size,pipeline,epochs\r\n2,16,64,arrays,\r\n\r\n3,8,,,9.0")
    defaults = RunSpec(batch_size=256, epochs=7, seed=5, pipeline="tfdata")
    assert read_specs(path, defaults) == [
        RunSpec(2, 16, 64, epochs=7, seed=5, pipeline="arrays"),
        RunSpec(3, 8, 256, epochs=9, seed=5, pipeline="tfdata"),
    ]


def test_runs_come_from_json(tmp_path):
    rows = [{"depth": 2, "window_steps": 20, "seed": None}, {"batch_size": 64.0, "data_dir": "images", "max_sec": 1}]
    first, second = read_specs(write(tmp_path, json.dumps(rows), "list.json"), RunSpec())
    assert first == RunSpec(depth=2, window_steps=20)
    assert (second.batch_size, second.max_sec) == (64, 1.0)
    assert os.path.isabs(second.data_dir)  # noqa: PTH117  # the field is a string


@pytest.mark.parametrize("value", ["auto", 10, "10"])
def test_words_and_numbers_are_told_apart(tmp_path, value):
    rows = [{"depth": 2, "steps_per_execution": value}]
    (spec,) = read_specs(write(tmp_path, json.dumps(rows), "a.json"), RunSpec())
    assert spec.steps_per_execution == (value if value == "auto" else 10)


@pytest.mark.parametrize("empty", ["", ",", ",,", ",,,,,", '"","",""', " ", "\t", " , "])
def test_a_row_of_empty_cells_is_no_row(tmp_path, empty):
    text = f"{empty}\n{HEADER}{empty}\n2,16,64\n{empty}\n{empty}" if not empty.strip() else f"{HEADER}{empty}\n2,16,64"
    assert read_specs(write(tmp_path, text), RunSpec(depth=9)) == [RunSpec(2, 16, 64)]
    assert read_configs(write(tmp_path, text)) == [RunConfig(2, 16, 64)]


def test_a_row_that_stands_twice_is_taken_once_and_counted(tmp_path, caplog):
    path = write(tmp_path, f"{HEADER}2,16,64\n3,32,128\n2,16,64\n2,16,64\n")
    assert read_configs(path) == [RunConfig(2, 16, 64), RunConfig(3, 32, 128)]
    assert f"{path}: 2 of 4 rows repeat another one: each is taken once" in caplog.text


def test_only_who_lists_configurations_alone_must_name_all_of_one(tmp_path):
    path = write(tmp_path, "depth,batch_size\n2,64\n")
    assert read_specs(path, RunSpec()) == [RunSpec(depth=2, batch_size=64)]
    with pytest.raises(ValueError, match=r"list.csv:2: base_filters not named\. A row needs depth, base_filters"):
        read_configs(path)


SPECS = st.builds(
    RunSpec,
    depth=st.integers(1, 16),
    base_filters=st.integers(1, 2**20),
    batch_size=st.integers(1, 2**20),
    epochs=st.none() | st.integers(2, 9),
    seed=st.integers(0, 2**32 - 1),
    data_dir=st.none() | st.sampled_from(["/a b/c,d", '/"quoted"', "/ümlaut/;x"]),
    pipeline=st.sampled_from(SPEC_CHOICES["pipeline"]),
    device=st.sampled_from(["auto", "gpu:1", "GPU-a,b"]),
    steps_per_execution=st.sampled_from([1, 7, "auto"]),
    target_ci=st.sampled_from([0.01, 1e-05, 0.5]),
    max_sec=st.floats(1e-6, 1e9),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(specs=st.lists(SPECS, min_size=1, max_size=4), is_json=st.booleans())
def test_what_was_written_is_read_again(tmp_path_factory, specs, is_json):
    rows = [dataclasses.asdict(spec) for spec in specs]
    text = io.StringIO()
    writer = csv.DictWriter(text, NAMES)
    writer.writeheader()
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("lists") / ("a.json" if is_json else "a.csv")
    path.write_bytes((json.dumps(rows) if is_json else text.getvalue()).encode())
    assert read_specs(path, RunSpec()) == list(dict.fromkeys(specs))


# --- what is not -----------------------------------------------------------------------------------------------------

BAD = [
    ("depth,filters\n2,16\n", ":1: unknown column 'filters' (did you mean base_filters?); use depth"),
    ("depth, batch_size\n2,64\n", ":1: unknown column ' batch_size' (did you mean batch_size?)"),
    ("depth,batch_size,depth\n2,64,3\n", ":1: column 'depth' stands twice"),
    ("depth,,batch_size\n2,,64\n", ":1: column 2 has no name"),
    ("depth;batch_size\n2;64\n", ":1: the columns are separated by ';', expected ','."),
    ("depth\tbatch_size\n2\t64\n", ":1: the columns are separated by a tab"),
    ("depth,batch_size\r2,64\r", ":1: lines end in CR alone"),
    ("depth,batch_size\n2,64\r3,64\n", ":2: lines end in CR alone"),
    ("depth,batch_size\n2,64\n3\n", ":3: expected 2 cells, as in the header, got 1"),
    ("depth\n2,16\n", ":2: expected 1 cell, as in the header, got 2"),
    ("depth,batch_size\n2,many\n", ":2, column 'batch_size': expected a whole number, got 'many'. Correct the cell"),
    ("depth\n\n\n0\n", ":4, column 'depth': expected a whole number of at least 1, got 0"),
    ("depth\n17\n", ":2, column 'depth': expected at most 16: filters double with every block, got 17"),
    ("depth,pipeline\n2,numpy\n", ":2, column 'pipeline': expected one of auto, tfdata, arrays, indices, device"),
    ("depth,epochs\n2,1\n", ":2, column 'epochs': expected at least 2 (the first is untimed)"),
    ("depth,data_dir\n2,~nosuchuser/x\n", ":2: '~nosuchuser/x': no such home folder is known"),
    ("depth,epochs\n2,5\n,5\n", ":3: a run without a configuration: none of depth, base_filters, batch_size is named"),
    ("seed\n1\n", ":2: a run without a configuration"),
    ("", ": no configuration in the file"),
    ("depth,base_filters\n", ": no configuration in the file"),
    ("depth,base_filters\n,\n\n", ": no configuration in the file"),
    ('depth\n"2\n', ":2: a quote is left open: a row is one line."),
    ('depth,data_dir\n2,"a\nb"\n', ":2: a quote is left open: a row is one line."),
    ('[{"depth": 2}]', ":1: looks like JSON. Give the file a name that ends in .json."),
    (b"depth\n\xff\n", ":2: not UTF-8 text"),
    ("depth\n2\n".encode("utf-16"), ":1: UTF-16 text"),
]
BAD_JSON = [
    ("", ": not JSON: Expecting value in line 1"),
    ('[\n{"depth": 2},\n{"depth": }]', ": not JSON: Expecting value in line 3"),
    ("[]", ": no configuration in the file"),
    ('{"depth": 2}', ": expected a list of objects"),
    ("[2]", ": expected a list of objects"),
    ("[" * 5000, ": not JSON that can be read: nested too deeply"),
    ('[{"depth": 2}, {}]', ", object 2: empty"),
    ('[{"depth": 2, "depth": 3}]', ": 'depth' stands twice in one object"),
    ('[{"depth": 2}, {"depht": 2}]', ", object 2: unknown column 'depht' (did you mean depth?)"),
    ('[{"depth": 2.5}]', ", object 1, column 'depth': expected a whole number, got 2.5"),
    ('[{"depth": [2]}]', ", object 1, column 'depth': expected a whole number, got [2]"),
    ('[{"depth": true}]', ", object 1, column 'depth': expected a whole number, got True"),
    ('[{"depth": NaN}]', ": NaN is no JSON number"),
    ('[{"depth": 2, "device": 3}]', ", object 1, column 'device': expected a word, got 3"),
    ('[{"epochs": 1}]', ", object 1, column 'epochs': expected at least 2"),
    ('[{"epochs": 5}]', ", object 1: a run without a configuration"),
]
BAD_CELLS = [
    "\uff11\uff12",
    "1e3",
    "3.5",
    " 3",
    "3 ",
    "1_000",
    "0x10",
    "--3",
    "",
    "NaN",
    "inf",
    "True",
    "9" * 5000,
    "1" + 30 * "0",
]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [*(("a.csv", *bad) for bad in BAD), *(("a.json", *bad) for bad in BAD_JSON)],
)
def test_a_bad_list_is_an_error_that_says_where(tmp_path, name, text, words):
    path = write(tmp_path, text, name)
    with pytest.raises(ValueError) as error:
        read_specs(path, RunSpec())
    assert str(error.value).startswith(f"{path}{words}")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["base_filters", "seed", "max_epochs"])
@pytest.mark.parametrize("cell", BAD_CELLS)
def test_a_cell_that_is_no_plain_whole_number_is_an_error(tmp_path, name, cell):
    path = write(tmp_path, f'depth,{name}\n2,"{cell}"\n')
    if not cell:
        assert read_specs(path, RunSpec()) == [RunSpec(depth=2)]
        return
    with pytest.raises(ValueError) as error:
        read_specs(path, RunSpec())
    assert str(error.value).startswith(f"{path}:2, column {name!r}: expected ")
    assert len(str(error.value)) < 300


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_mutated_list_is_an_error_or_lists_no_more_than_it_says(tmp_path_factory, data):
    """Whatever is broken, every run that is read has at least one number of its own line."""
    lines = ["depth,base_filters,batch_size,epochs", "2,16,64,5", "3,8,128,", "4,4,256,7"]
    text = "\n".join(lines)
    for _ in range(data.draw(st.integers(1, 3))):
        at, size = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 3))
        put = data.draw(st.sampled_from(["", ",", "\n", "\r", '"', ";", "\0", " ", "-", "9", "x", "e", ".0", "\u2028"]))
        text = text[:at] + put + text[at + size :]
    path = tmp_path_factory.mktemp("mutated") / "a.csv"
    path.write_bytes(text.encode())
    defaults = RunSpec(depth=15, base_filters=12345, batch_size=54321)
    try:
        specs = read_specs(path, defaults)
    except ValueError as error:
        assert str(error).startswith(str(path))
        return
    rows = [line for line in text.split("\n")[1:] if line.replace(",", "").replace('"', "").strip()]
    assert len(specs) == len({row.rstrip("\r") for row in rows}) or len(specs) < len(rows)
    assert all(spec.config != defaults.config for spec in specs)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", HEADER + 70_000 * "3,32,1\n"),
        ("a.csv", HEADER + 500_000 * "\n"),
        ("a.csv", "depth" + 250_000 * ",x" + "\n1\n"),
        ("a.csv", "depth\n" + 500_000 * "3"),
        ("a.json", "[" + ",".join(40_000 * ['{"depth":1}']) + "]"),
        ("a.json", "[{" + ",".join(f'"a{i}":1' for i in range(30_000)) + ',"a29999":1}]'),
    ],
    ids=["rows", "blank lines", "columns", "a number", "objects", "names"],
)
def test_a_list_of_half_a_megabyte_is_one_sentence(tmp_path, name, text):
    """That one of five megabytes is read soon and in little memory stands in test_large_files.py."""
    with pytest.raises(ValueError) as error:
        read_specs(write(tmp_path, text, name), RunSpec())
    assert len(str(error.value)) < 500


def test_more_configurations_than_can_be_measured_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(config_lists, "MAX_CONFIGURATIONS", 3)
    path = write(tmp_path, "depth\n1\n2\n3\n")
    assert len(read_specs(path, RunSpec())) == 3
    with pytest.raises(ValueError, match=r"list.csv: more than 3 configurations\. Split the list\."):
        read_specs(write(tmp_path, "depth\n1\n2\n3\n4\n"), RunSpec())


def test_a_missing_list_or_a_pipe_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        read_configs(tmp_path / "none.csv")
    assert caught.value.filename == str(tmp_path / "none.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(OSError, match="a pipe or a device"):
        read_configs(tmp_path / "pipe.csv")
