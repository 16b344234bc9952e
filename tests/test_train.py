"""Training on a table: what the card says is what was done, and nothing is replaced by a command that fails."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from rows import CONFIGS, ROWS

from aggregate.agg_table import write_agg
from aggregate.runs_agg import aggregate
from epochcast.files import sha256_of
from epochcast.schema import AggRow, Conditions, RunRecord
from epochcast.tables import append_row, read_runs, write_table
from model import train as training
from model.features import feature_matrix
from model.predictor import load_model
from model.train import card_lines, declare, default_model_path, rows_sha256, train
from workload.shape import count_params

HELD_OUT = CONFIGS[2]
KEPT = [config for config in CONFIGS if config != HELD_OUT]


def record(row, **values):
    """A run of three epochs at the time of an aggregated row, the first 10 s longer."""
    sec = row.avg_time_mean
    known = {
        "timestamp_utc": "2026-01-01T00:00:00+00:00",
        "tf_version": "2.21.0",
        **asdict(row.config),
        "epochs": 3,
        "params": count_params(row.depth, row.base_filters),
        "epoch_times_json": (sec + 10, sec, sec),
        "avg_time_sec": sec,
        "images_per_sec": 50_000 / sec,
        "test_acc": None,
        "backend": "tensorflow",
        "overhead_sec": 7.0,
    }
    return RunRecord(**{**known, **values})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What --json printed, and the table learned from, which was out of date: a run of it is newer."""
    folder = tmp_path_factory.mktemp("train")
    runs, table, model = folder / "runs.csv", folder / "runs_agg.csv", folder / "new" / "box.keras"
    write_table(runs, [record(row) for row in ROWS], RunRecord)
    write_agg(runs, table)
    append_row(runs, record(ROWS[0]))
    (folder / "held_out.csv").write_text("depth,base_filters,batch_size\n{},{},{}\n".format(*asdict(HELD_OUT).values()))
    argv = ["--runs_agg", table, "--model", model, "--held_out", folder / "held_out.csv", "--seed", 3, "--json"]
    argv += ["--declare", "device_name=NVIDIA Test,train_n=50000,backend=tensorflow", "--credit", "measured by us"]
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPOCHCAST_HOME", str(folder))
        assert training.main([str(word) for word in argv]) == 0
    return json.loads(out.getvalue()), aggregate(read_runs(runs)).rows, folder


def test_a_table_out_of_date_is_made_anew_and_said(trained):
    said, _, folder = trained
    assert said["table"] == str(folder / "runs_agg.csv")
    assert said["table_origin"] == f"was out of date: made anew from {folder / 'runs.csv'}"
    assert said["n_runs"] == 6  # 7 of the table, of which one was held out


def test_the_card_lies_beside_the_model_and_the_pair_loads(trained):
    said, _, folder = trained
    assert {file.name for file in (folder / "new").iterdir()} == {"box.keras", "box.json"}
    saved = load_model(folder / "new" / "box.keras")
    assert said == {**{name: said[name] for name in ("table", "table_origin", "model")}, **saved.card}
    assert said["model"] == str(saved.path)
    assert saved.card["keras_sha256"] == sha256_of(saved.path)
    measured = {row.config: row.avg_time_mean for row in ROWS}
    # five rows, 1,500 steps: within 1 %
    np.testing.assert_allclose(saved.time_model.times(KEPT), [measured[c] for c in KEPT], rtol=0.01)


def test_the_card_tells_what_was_learned_from(trained):
    card, rows, _ = trained
    kept = [row for row in rows if row.config != HELD_OUT]
    assert card["n_configurations"] == len(kept) == 5
    assert card["rows_sha256"] == rows_sha256(kept) != rows_sha256(rows)
    assert card["seed"] == 3
    assert card["credit"] == "measured by us"
    assert set(card["versions"]) == {"epochcast", "keras", "numpy"}
    assert (card["errors"]["n"], card["errors"]["split"]) == (5, "5-fold by configuration")
    assert card["errors"]["mape"] > 0
    assert card["overhead_sec"] == {"median": 7.0, "n": 5}
    assert card["first_epoch_excess_sec"] == {"median": pytest.approx(10, rel=1e-12), "n": 5}  # a difference of floats


def test_a_held_out_configuration_is_in_neither_fit_nor_range(trained):
    card, _, _ = trained
    assert card["held_out"] == [list(asdict(HELD_OUT).values())]
    assert card["range"] == {"depth": [2, 3], "base_filters": [16, 32], "batch_size": [64, 256]}
    features, log_time = feature_matrix(KEPT), np.log([r.avg_time_mean for r in ROWS if r.config != HELD_OUT])
    np.testing.assert_allclose(card["feature_mean"], features.mean(axis=0), rtol=1e-12)  # same sums, other code
    np.testing.assert_allclose(card["feature_scale"], features.std(axis=0), rtol=1e-12)
    assert card["law"][0] == pytest.approx(log_time.mean(), rel=1e-9)  # least squares on centred columns


def test_declared_conditions_are_marked_as_such_beside_measured_ones(trained):
    card, _, _ = trained
    assert card["declared"] == ["backend", "device_name", "train_n"]
    assert card["conditions"] == asdict(
        Conditions(device_name="NVIDIA Test", backend="tensorflow", backend_version="2.21", train_n=50_000)
    )


def test_a_card_is_told_to_people_in_three_lines(trained):
    lines = card_lines(trained[0])
    assert lines[0] == (
        "learned_from: 5 configurations, 6 runs; depth 2 to 3, base_filters 16 to 32, batch_size 64 to 256"
    )
    assert lines[1].startswith("conditions: device_name=NVIDIA Test, backend=tensorflow")
    assert lines[2].startswith("error: MAPE ")
    assert lines[2].endswith("(5-fold by configuration, n = 5)")


# --- hashes and names -------------------------------------------------------------------------------------------------


def test_the_hash_of_rows_knows_no_order_but_every_time_and_configuration():
    assert rows_sha256(ROWS) == rows_sha256(ROWS[::-1])
    slower = replace(ROWS[0], avg_time_mean=float(np.nextafter(ROWS[0].avg_time_mean, 99)))
    others = [ROWS[1:], [slower, *ROWS[1:]], [replace(ROWS[0], batch_size=65), *ROWS[1:]]]
    assert len({rows_sha256(rows) for rows in (ROWS, *others)}) == 4


def test_a_model_is_kept_per_device_and_conditions(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    gpu = Conditions(device_name="NVIDIA A100 80GB PCIe")
    path = default_model_path(gpu)
    assert path.parent == tmp_path / "results" / "models"
    assert path.name.startswith("NVIDIA-A100-80GB-PCIe-")
    assert default_model_path(replace(gpu, precision="float32")) != path
    assert default_model_path(Conditions()).name.startswith("unknown-device-")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"gpu": "A100"}, "--declare gpu: not a condition; use device_name, "),
        ({"precision": "float32"}, "--declare precision=float32: the table says mixed_float16."),
        ({"train_n": "10000"}, "--declare train_n=10000: the table says 50000."),
        ({"steps_per_execution": "x"}, "--declare steps_per_execution=x: expected a whole number of at least 1."),
        ({"window_steps": "0"}, "--declare window_steps=0: expected a whole number of at least 1."),
        ({"window_steps": ""}, "--declare window_steps=: expected a whole number of at least 1."),
    ],
)
def test_a_wrong_declaration_is_refused(facts, said):
    with pytest.raises(ValueError) as caught:
        declare(Conditions(precision="mixed_float16", train_n=50_000), facts)
    assert str(caught.value).startswith(said)


def test_what_the_table_says_may_be_declared_again():
    conditions = Conditions(train_n=50_000, backend="jax")
    assert declare(conditions, {"train_n": "50000", "backend": "jax"}) == conditions


# --- refused before any work ------------------------------------------------------------------------------------------


def test_a_held_out_configuration_that_was_not_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^held out, but not in the table: \(2,32,64\)\.$"):
        train(ROWS[:2], tmp_path / "m.keras", held_out=[CONFIGS[0], HELD_OUT])


def command(capsys, folder, rows, *flags):
    """Exit code and standard error of the command on a table of rows."""
    write_table(folder / "runs_agg.csv", rows, AggRow)
    code = training.main(["--runs_agg", str(folder / "runs_agg.csv"), *flags])
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))


def test_a_wrong_declaration_leaves_an_older_model_as_it_was(tmp_path, capsys):
    model = tmp_path / "m.keras"
    model.write_bytes(b"older")
    code, err = command(capsys, tmp_path, ROWS, "--model", str(model), "--declare", "gpu=A100")
    assert code == 1
    assert "error: --declare gpu: not a condition" in err
    assert model.read_bytes() == b"older"


def test_the_name_of_a_model_must_end_in_keras(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        training.main(["--model", str(tmp_path / "model.h5")])
    assert end.value.code == 2
    assert "the name must end in .keras" in capsys.readouterr().err


def test_a_path_that_can_t_be_written_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, err = command(capsys, tmp_path, ROWS, "--model", str(tmp_path / "file" / "m.keras"))
    assert code == 1
    assert err.splitlines()[-1] == f"error: {tmp_path / 'file'}: a file, not a folder."


def test_too_few_configurations_are_refused(tmp_path, capsys):
    code, err = command(capsys, tmp_path, ROWS[:4])
    assert code == 1
    assert "4 configurations are too few" in err


def test_mixed_conditions_stop_with_the_choices(tmp_path, capsys):
    mixed = [replace(row, precision=p) for p in ("float32", "mixed_float16") for row in ROWS]
    code, err = command(capsys, tmp_path, mixed)
    assert code == 1
    assert "the table mixes 2 sets of conditions" in err
    assert "--conditions precision=float32 " in err
    assert "--conditions precision=mixed_float16 " in err
    assert not (tmp_path / "results" / "models").exists()
