"""A file is replaced by a newer one of its own kind alone, known by what only our files hold."""

from __future__ import annotations

import json

import pytest

from epochcast.model.selection.next_runs import NextRun, configs_csv
from epochcast.paths import CODE_ROOT
from epochcast.planner.costs.budget import Budget
from epochcast.planner.costs.values import COUNT
from epochcast.planner.output.exports import optuna_trials, plan_sh
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.plan_file import plan_json
from epochcast.schema import Conditions, RunConfig
from epochcast.storage.file_kinds import MOST_BYTES, START_BYTES, kind_of
from epochcast.storage.files import json_bytes, refuse_another_kind
from tests.support.rows import random_runs

KEPT = {"table": "x", "spec": {}, "epoch_edges_sec": [[1.0, 2.0]] * 8000, "row": {"run_id": "a"}}
CONFIGS = b"depth,base_filters,batch_size,epochs\n1,2,3,4\n"
TRIALS = json_bytes([{"params": {"depth": 1}, "user_attrs": {"plan_id": "p"}}])
SCRIPT = b"#!/bin/sh\n# p: 1 runs\n# Nothing here watches the budget; `epochcast run_plan` does.\n"
CARD = b"---\nlibrary_name: keras\nmape: 0.1\nkeras_sha256: ab\n---\n\n# mine\n"
REPORT = b"# How well the time model predicts\n\nRows\n"
BENCHMARK = json_bytes({"created_utc": "2026", "cases": [1]})
CASES = json_bytes([{"case": 1, "sec": 2.0}])
AVERAGES = b"depth,base_filters,batch_size,params,n\n"
OURS = [CONFIGS, TRIALS, SCRIPT, CARD, REPORT, BENCHMARK, CASES, AVERAGES]
PRECIOUS = [
    json.dumps(KEPT, indent=2).encode(),
    json.dumps(KEPT).encode(),
    json.dumps(KEPT, indent=2).encode()[:-9],
    b'{"my": "settings"}',
    b'{"cells": [], "nbformat": 4}',
    b"[1, 2]",
    b'[{"params": {}}]',
    b'[{"params": {}, "user_attrs": {}, "value": 0.9}]',
    b"depth,base_filters,batch_size,seconds\n1,2,3,4\n",
    b"depth,base_filters,batch_size,measured_sec,repeat,physics_sec\n1,2,3,4\n",
    b"run_id,depth,base_filters,mine\n",
    b"#!/usr/bin/env python3\nprint(1)\n",
    b"#!/bin/sh\n# runs an epochcast plan\n",
    b"---\ntitle: my thesis\n---\nkeras_sha256: no\n",
    b"# notes of mine\n",
    b"timestamp_utc,tf_version,depth\n",
    b"\xff\xfe{\0",
    b"[" * 100_000,
]


@pytest.mark.parametrize("precious", PRECIOUS, ids=lambda data: repr(data[:30]))
def test_nothing_of_ours_replaces_what_is_not_known_as_ours(tmp_path, precious):
    path = tmp_path / "file"
    path.write_bytes(precious)
    for data in OURS:
        with pytest.raises(ValueError, match=r"is not replaced by .*Name another file, or move this one away first"):
            refuse_another_kind(path, data)


@pytest.mark.parametrize("old", OURS, ids=lambda data: repr(data[:30]))
def test_each_of_ours_replaces_its_own_kind_alone(tmp_path, old):
    path = tmp_path / "file"
    path.write_bytes(old)
    for new in OURS:
        if new == old:
            refuse_another_kind(path, new)
        else:
            with pytest.raises(ValueError, match="is not replaced"):
                refuse_another_kind(path, new)


@pytest.mark.parametrize("nothing", [b"", b"\n", b"[]\n", b"{}"])
def test_what_holds_nothing_is_replaced(tmp_path, nothing):
    (tmp_path / "file").write_bytes(nothing)
    for data in OURS:
        refuse_another_kind(tmp_path / "file", data)


def test_a_report_that_is_made_again_may_have_gained_or_lost_parts(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(BENCHMARK)
    for parts in ({"created_utc": "2027"}, {"created_utc": "2027", "cases": [], "networks": []}):
        refuse_another_kind(path, json_bytes(parts))


def test_json_longer_than_what_is_read_is_never_replaced(tmp_path, monkeypatch):
    assert len(json.dumps(KEPT)) > START_BYTES
    monkeypatch.setattr("epochcast.storage.files.MOST_BYTES", START_BYTES)
    (tmp_path / "file").write_bytes(json_bytes({"created_utc": "x", "cases": [0] * START_BYTES}))
    with pytest.raises(ValueError, match="broken JSON"):
        refuse_another_kind(tmp_path / "file", BENCHMARK)
    assert MOST_BYTES > START_BYTES


def test_what_commands_write_is_known_by_its_mark():
    runs = [NextRun(RunConfig(2, 16, 64), "x", 1.0)]
    assert kind_of(configs_csv(runs, 3, Conditions(precision="float32")).encode()) == kind_of(CONFIGS)
    plan = plan_json(make_plan(random_runs(4, n=6), Budget(90.0), COUNT), Conditions(), {}, [])
    assert kind_of(plan_sh(plan).encode()) == kind_of(SCRIPT)
    assert kind_of(json_bytes(optuna_trials(plan))) == kind_of(TRIALS)
    assert kind_of((CODE_ROOT / "model" / "pretrained" / "a100.md").read_bytes()) == kind_of(CARD)
