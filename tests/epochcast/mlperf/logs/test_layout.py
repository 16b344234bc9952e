"""Which file of a results repository is a log, of what; and one name for each work that was benchmarked."""

from __future__ import annotations

import pytest

from epochcast.mlperf.logs.benchmarks import benchmark_name
from epochcast.mlperf.logs.layout import FilePlace, place_of, round_in


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("v4.0", "4.0"),
        ("4.0", "4.0"),
        ("v0.5.0", "0.5"),
        ("training_results_v5.1", "5.1"),
        ("training_results_v0.7-main", "0.7"),
        ("training_results_v4.1.tar.gz", "4.1"),
        ("training_results.tar.xz", None),
        ("cloud_v2.8", None),
        ("research_v3.32", None),
        ("dgx1_ngc18.11_mxnet", None),
        ("Dell", None),
    ],
)
def test_a_round_is_named_by_a_whole_name(name, found):
    assert round_in(name) == found


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (
            "v4.0/Dell/results/XE9680/bert/result_0.txt",
            ("4.0", "Dell", "XE9680", "bert", "v4.0/Dell/results/XE9680/bert/result_0.txt"),
        ),
        (
            "a/training_results_v4.0/Dell/results/XE9680/bert/result_12_1n4r_32k_1592751389.txt",
            ("4.0", "Dell", "XE9680", "bert", "v4.0/Dell/results/XE9680/bert/result_12_1n4r_32k_1592751389.txt"),
        ),
        (
            "v0.5/v0.5.0/google/cloud_v2.8/ssd-tpuv2-8/results/tpu/ssd/result_3.txt",
            (
                "0.5",
                "google",
                "cloud_v2.8/ssd-tpuv2-8/tpu",
                "ssd",
                "v0.5/google/cloud_v2.8/ssd-tpuv2-8/results/tpu/ssd/result_3.txt",
            ),
        ),
        (
            "v0.7/Alibaba/results/v100-1280/result_1.txt",
            ("0.7", "Alibaba", "v100-1280", None, "v0.7/Alibaba/results/v100-1280/result_1.txt"),
        ),
        (
            "v0.7/Alibaba/results/a100-8/resnet/200711025203744603517_1.log",
            ("0.7", "Alibaba", "a100-8", "resnet", "v0.7/Alibaba/results/a100-8/resnet/200711025203744603517_1.log"),
        ),
        (
            "v1.0/Habana/results/SYS-420GH-TNGR/resnet/bert/result_0.txt",
            ("1.0", "Habana", "SYS-420GH-TNGR", "bert", "v1.0/Habana/results/SYS-420GH-TNGR/resnet/bert/result_0.txt"),
        ),
    ],
)
def test_the_path_of_a_log_says_round_submitter_system_and_benchmark(path, place):
    found = place_of(path, None)
    assert (found.round, found.submitter, found.system, found.benchmark, found.path) == place
    assert found.is_log


@pytest.mark.parametrize(
    ("description", "log"),
    [
        ("v4.0/Dell/systems/XE9680.json", "v4.0/Dell/results/XE9680/bert/result_0.txt"),
        ("v0.6/Alibaba/results/sinian/entry.json", "v0.6/Alibaba/results/sinian/resnet/result_0.txt"),
        ("v0.5/nvidia/submission/results/dgx1/entry.json", "v0.5/nvidia/submission/results/dgx1/ncf/result_0.txt"),
    ],
)
def test_a_description_has_the_key_of_its_logs(description, log):
    found, of = place_of(description, None), place_of(log, None)
    assert not found.is_log
    assert found.key == of.key


@pytest.mark.parametrize(
    "path",
    [
        "v4.0/README.md",
        "v4.0/Dell/benchmarks/bert/result_0.txt",
        "v4.0/Dell/results/XE9680/bert/power/result_0/node_0.txt",
        "v4.0/Dell/results/XE9680/bert/result_0.png",
        "v4.0/Dell/systems/deeper/XE9680.json",
        "results/result_0.txt",
    ],
)
def test_another_file_is_neither(path):
    assert place_of(path, None) is None


def test_a_round_that_no_folder_names_is_the_source_s_or_asked_for():
    path = "Dell/results/XE9680/bert/result_0.txt"
    assert place_of(path, "5.1") == FilePlace("5.1", "Dell", "XE9680", "5.1/Dell/XE9680", f"v5.1/{path}", "bert", True)
    with pytest.raises(ValueError, match=f"{path}: which round it is of is not known.*--round 4.0"):
        place_of(path, None)
    assert place_of("README.md", None) is None  # of another file it need not be known


@pytest.mark.parametrize(
    ("said", "of_round", "name"),
    [
        ("ssd", "1.1", "ssd300"),
        ("ssd", "2.0", "retinanet"),
        ("ssd", "4.1", "retinanet"),
        ("retinanet", "5.0", "retinanet"),
        ("mask", "0.6", "maskrcnn"),
        ("maskrcnn", "2.0", "maskrcnn"),
        ("gnn", "4.1", "gnn"),
        ("rgat", "5.0", "gnn"),
        ("minigo", "0.6", "minigo9"),
        ("minigo", "0.7", "minigo"),
        ("dlrm", "2.1", "dlrm"),
        ("dlrm_dcnv2", "3.0", "dlrm_dcnv2"),
        ("BERT", "4.0", "bert"),
        ("a_new_one", "6.0", "a_new_one"),
    ],
)
def test_a_benchmark_has_one_name_for_one_work(said, of_round, name):
    assert benchmark_name(said, of_round) == name
