"""`epochcast train`: what the card says is what was done, and nothing is replaced by a command that fails."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.averages.source import write_agg
from epochcast.model.time_model.card_text import card_lines
from epochcast.model.time_model.features import FEATURE_NAMES, feature_matrix
from epochcast.model.time_model.physics import fit_gated_law
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.train import main
from epochcast.model.training.cross_validation import rows_sha256
from epochcast.schema import AggRow, Conditions, RunConfig, RunRecord
from epochcast.storage.files import sha256_of
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_runs, write_table
from epochcast.workload.shape import count_params
from tests.support.rows import CONFIGS, ROWS, agg_row, plausible_sec

HELD_OUT = CONFIGS[2]
SEVEN = [*ROWS, agg_row(2, 64, 128, plausible_sec(RunConfig(2, 64, 128)))]
KEPT = [row for row in SEVEN if row.config != HELD_OUT]
KEPT_CONFIGS = [row.config for row in KEPT]


def record(row, **values):
    """A run of three epochs at the time of an aggregated row, the first 10 s longer."""
    sec = row.avg_time_mean
    known = {
        "timestamp_utc": "2026-01-01T00:00:00+00:00",
        "tf_version": "2.21.0",
        **asdict(row.config),
        "epochs": 3,
        "params": count_params(row.config),
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
    write_table(runs, [record(row) for row in SEVEN], RunRecord)
    write_agg(runs, table)
    append_row(runs, record(SEVEN[0]))
    (folder / "held_out.csv").write_text("depth,base_filters,batch_size\n{},{},{}\n".format(*asdict(HELD_OUT).values()))
    argv = ["--runs_agg", table, "--model", model, "--held_out", folder / "held_out.csv", "--seed", 3, "--json"]
    argv += ["--declare", "device_name=NVIDIA Test,train_n=50000,backend=tensorflow", "--credit", "measured by us"]
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPOCHCAST_HOME", str(folder))
        assert main([str(word) for word in argv]) == 0
    return json.loads(out.getvalue()), aggregate(read_runs(runs)).rows, folder


def test_a_table_out_of_date_is_made_anew_and_said(trained):
    said, _, folder = trained
    assert said["table"] == str(folder / "runs_agg.csv")
    assert said["table_origin"] == f"was out of date: made anew from {folder / 'runs.csv'}"
    assert said["n_runs"] == 7  # 8 of the table, of which one was held out


def test_the_cards_lie_beside_the_model_and_the_pair_loads(trained):
    said, _, folder = trained
    assert {file.name for file in (folder / "new").glob("[!.]*")} == {"box.keras", "box.json", "box.md"}
    saved = load_model(folder / "new" / "box.keras")
    own = ("table", "table_origin", "conditions_chosen", "other_conditions", "model")
    assert said == {**{name: said[name] for name in own}, **saved.card}
    assert said["model"] == str(saved.path)
    assert saved.card["keras_sha256"] == sha256_of(saved.path)
    law, _ = fit_gated_law("physics_6", KEPT_CONFIGS, np.array([r.avg_time_mean for r in KEPT]), 50_000)
    np.testing.assert_allclose(saved.time_model.times(KEPT_CONFIGS), law.seconds(KEPT_CONFIGS), rtol=1e-9)  # means


def test_the_card_tells_what_was_learned_from(trained):
    card, rows, _ = trained
    kept = [row for row in rows if row.config != HELD_OUT]
    assert card["n_configurations"] == len(kept) == 6
    assert card["rows_sha256"] == rows_sha256(kept) != rows_sha256(rows)
    assert card["seed"] == 3
    assert card["credit"] == "measured by us"
    assert set(card["versions"]) == {"epochcast", "keras", "numpy", "scikit-learn"}
    assert (card["errors"]["n"], card["errors"]["split"]) == (6, "leave-one-out")
    assert card["errors"]["mape"] > 0
    assert card["overhead_sec"] == {"median": 7.0, "n": 6, "within": None}
    excess = card["first_epoch_excess_sec"]
    assert (excess["median"], excess["n"], excess["form"]) == (pytest.approx(10, rel=1e-12), 6, None)


def test_a_held_out_configuration_is_in_neither_fit_nor_range(trained):
    card, _, _ = trained
    assert card["held_out"] == [list(asdict(HELD_OUT).values())]
    assert card["range"] == {"depth": [2, 3], "base_filters": [16, 64], "batch_size": [64, 256]}
    features = feature_matrix(KEPT_CONFIGS, FEATURE_NAMES, 50_000)
    np.testing.assert_allclose(card["feature_mean"], features.mean(axis=0), rtol=1e-12)  # same sums, other code
    np.testing.assert_allclose(card["feature_scale"], features.std(axis=0), rtol=1e-12)
    assert (card["feature_low"], card["feature_high"]) == (list(features.min(axis=0)), list(features.max(axis=0)))


def test_declared_conditions_are_marked_as_such_beside_measured_ones(trained):
    card, _, _ = trained
    assert card["declared"] == ["backend", "device_name", "train_n"]
    assert card["conditions"] == asdict(
        Conditions(device_name="NVIDIA Test", backend="tensorflow", backend_version="2.21", train_n=50_000)
    )


def test_a_card_is_told_to_people_in_a_few_lines(trained):
    lines = dict(line.split(": ", 1) for line in card_lines(trained[0]))
    assert lines["learned_from"] == (
        "6 configurations, 7 runs; depth 2 to 3, base_filters 16 to 64, batch_size 64 to 256"
    )
    assert lines["conditions"].startswith("device_name=NVIDIA Test, backend=tensorflow")
    assert lines["form"] == "physics (6 configurations; a network needs 20)"
    assert lines["plain_law"] == "; ".join(w for w in trained[0]["plain_law"]["readings"].values() if w != "none")
    assert lines["error"].startswith("MAPE ")
    assert lines["error"].endswith("(leave-one-out, n = 6)")
    more = "3 more configurations give a range"
    assert lines["interval_90"] == f"within the range unknown, one step beyond it unknown; {more}"


def command(capsys, folder, rows, *flags):
    """Exit code and standard error of the command on a table of rows."""
    write_table(folder / "runs_agg.csv", rows, AggRow)
    code = main(["--runs_agg", str(folder / "runs_agg.csv"), *flags])
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


pytestmark = pytest.mark.usefixtures("home")


def test_a_wrong_declaration_leaves_an_older_model_as_it_was(tmp_path, capsys):
    model = tmp_path / "m.keras"
    model.write_bytes(b"older")
    code, err = command(capsys, tmp_path, ROWS, "--model", str(model), "--declare", "gpu=A100")
    assert code == 1
    assert "error: --declare gpu: not a condition" in err
    assert model.read_bytes() == b"older"


def test_the_name_of_a_model_must_end_in_keras(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--model", str(tmp_path / "model.h5")])
    assert end.value.code == 2
    assert "the name must end in .keras" in capsys.readouterr().err


def test_a_path_that_can_t_be_written_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, err = command(capsys, tmp_path, ROWS, "--model", str(tmp_path / "file" / "m.keras"))
    assert code == 1
    assert err.splitlines()[-1] == f"error: {tmp_path / 'file'}: a file, not a folder."


def test_too_few_configurations_are_refused(tmp_path, capsys):
    code, err = command(capsys, tmp_path, ROWS[:5])
    assert code == 1
    assert (
        "error: 5 configurations are too few to learn from: measure at least 6; epochcast next_runs names them, "
        "and --start_from another device's model takes fewer."
    ) in err


def test_of_level_sets_of_conditions_the_last_is_used_and_both_are_named(tmp_path, capsys):
    mixed = [replace(row, precision=p) for p in ("float32", "mixed_float16") for row in ROWS[:5]]
    code, err = command(capsys, tmp_path, mixed)
    assert code == 1
    assert "the table mixes 2 sets of conditions; used: the last in the table" in err
    assert "--conditions precision=mixed_float16   (5 rows) of " in err
    assert "not used: --conditions precision=float32   (5 rows)" in err
    assert "5 configurations are too few to learn from" in err  # never both sets together
    assert not (tmp_path / "results" / "models").exists()
