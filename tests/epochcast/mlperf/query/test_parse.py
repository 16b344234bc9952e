"""Questions in plain words: every field right, or one clear error."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from epochcast.facts.regions import find_region
from epochcast.facts.tables import accelerators
from epochcast.mlperf.query.benchmarks import WITH_RESULTS
from epochcast.mlperf.query.parse import parse_query
from epochcast.mlperf.query.query import QueryError
from epochcast.mlperf.query.text import LONGEST

A100, H100, V100 = "A100 SXM4 80GB", "H100 SXM5", "V100 SXM2 16GB"  # as a name without form and memory is read
OTHERS = ("nodes", "batch", "tdp", "region")


def fields(text):
    """Benchmark, GPU, number, and what else a question says."""
    query = parse_query(text)
    regions = ",".join(each.value for each in query.regions) or None
    found = (query.nodes, query.batch_size, query.tdp_w)
    values = [None if each is None else each.value for each in found]
    others = {name: value for name, value in zip(OTHERS, (*values, regions), strict=True) if value is not None}
    return query.benchmark.value, query.device.value, query.count.value, others


def questions():
    """The lines of questions.txt: the question and its fields."""
    for line in (Path(__file__).parent / "questions.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            text, benchmark, device, count, others = (part.strip() for part in line.split("|"))
            values = dict(pair.split("=") for pair in others.split())
            said = {name: value if name == "region" else float(value) for name, value in values.items()}
            yield text, (benchmark, device, int(count), said)


# --- questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BERT on 8 A100 GPUs", ("bert", A100, 8, {})),
        ("SSD object detection on 64 L40S GPUs", ("retinanet", "L40S", 64, {})),
        ("BERT on 2 RTX-4090 GPUs with batch size 64", ("bert", "RTX 4090", 2, {"batch": 64})),
        ("ssd on 4x RTX 4090 batch=32", ("retinanet", "RTX 4090", 4, {"batch": 32})),
        ("ResNet-50 v1.5 on 1,024 V100s", ("resnet", V100, 1024, {})),
        ("GPT-3 175B on 4 nodes x 8 H100", ("gpt3", H100, 32, {"nodes": 4})),
        ("RNN-T on 4 nodes with 8 A30 each", ("rnnt", "A30", 32, {"nodes": 4})),
        ("go train dlrm_dcnv2 on google cloud with 64 H100", ("dlrm_dcnv2", H100, 64, {})),
        ("minigo on 32 H100", ("minigo", H100, 32, {})),
        ("Llama 3.1 405B on 512 GB200", ("llama31_405b", "GB200", 512, {})),
        ("llama2 70b lora on 8 B200 in Germany", ("llama2_70b_lora", "B200 SXM", 8, {"region": "DE"})),
        ("image generation with stable diffusion on 8 L40", ("stable_diffusion", "L40", 8, {})),
        ("BERT with 16 A100-SXM4-40GB GPUs, bs=4k", ("bert", "A100 SXM4 40GB", 16, {"batch": 4000})),
        ("mask rcnn on 8 A100 80GB PCIe (300W)", ("maskrcnn", "A100 PCIe 80GB", 8, {"tdp": 300})),
        ("3d unet, eight A100s", ("unet3d", A100, 8, {})),
        ("BERT-large on a DGX H100", ("bert", H100, 8, {"nodes": 1})),
        ("H100x8 bert", ("bert", H100, 8, {})),
        ("8xMI300X llama2_70b_lora", ("llama2_70b_lora", "MI300X", 8, {})),
        ("resnet on TPU v5p 128 chips batch 256", ("resnet", "TPU v5p", 128, {"batch": 256})),
        ("train retinanet on 72 GB300", ("retinanet", "GB300", 72, {})),
        ("recommendation on 3,072 H100 gpus", ("dlrm_dcnv2", H100, 3072, {})),
    ],
)
def test_a_question_is_read_as_it_is_meant(text, expected):
    assert fields(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llama31_8b on 8xH200", "no MLPerf results of 'llama31_8b'. Nearest: llama31_405b, llama2_70b_lora"),
        ("flux.1 on 72 B200", "no MLPerf results of 'flux1'. The benchmarks: bert, "),
        ("train on 8 gpus", "no benchmark is named. The benchmarks: bert, .* No GPU is named, such as A100"),
        ("bert on 0 A100", "number of GPUs must be from 1 to 1,000,000, got 0"),
        ("bert or resnet on 8 H100", "several benchmarks are named, bert and resnet"),
    ],
)
def test_what_cannot_be_answered_is_one_clear_error(text, message):
    with pytest.raises(QueryError, match=message):
        parse_query(text)


@pytest.mark.parametrize(
    ("text", "expected"), list(questions()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_more_questions_are_read_without_a_wrong_field(text, expected):
    assert fields(text) == expected


def test_more_than_a_hundred_questions_are_at_hand():
    texts = [text for text, _ in questions()]
    assert len(set(texts)) == len(texts) > 100


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # numbers
        ("bert on 8 or 16 H100", "several numbers of GPUs, 8 and 16"),
        ("bert on 8, 16 and 32 H100", "several numbers of GPUs, 16 and 32"),
        ("bert on 8-16 H100", "several numbers of GPUs, 8 and 16"),
        ("gpt3 on 3 072 H100", "several numbers of GPUs, 3 and 072"),
        ("bert on 8xA100 and 16 gpus", "several numbers of GPUs, 8 and 16"),
        ("bert on -8 A100", "whole number of at least 1, such as 1024, got '-8'"),
        ("bert on 2.5 A100", "got '2.5'"),
        ("bert on 1.024 A100", "got '1.024'"),
        ("bert on 2k H100", "got '2k'"),
        ("bert on 2 thousand H100", "got '2 thousand'"),
        ("bert on zero H100", "from 1 to 1,000,000, got 0"),
        ("bert on 4 nodes x 0 H100", "from 1 to 1,000,000, got 0"),
        ("bert on 99999999 H100", "from 1 to 1,000,000, got 99,999,999"),
        ("bert on A100 40", "is 40 the memory or the number of GPUs"),
        ("bert, 2 nodes, 8 H100", "is 8 the number in all or on each node"),
        ("bert with 30 H100 on 4 nodes", "30 GPUs do not spread evenly over 4 nodes"),
        ("gnmt, 24 DGX-2 nodes? no: 256 V100", "256 GPUs do not spread evenly over 24 nodes"),
        ("nodes: 3, bert on 64 H100", "64 GPUs do not spread evenly over 3 nodes"),
        ("bert with 8 H100 on 16 nodes", "8 GPUs do not spread evenly over 16 nodes"),
        ("bert on 8 H100 batch size 0", "batch size must be a whole number of at least 1, got '0'"),
        ("bert on 8 H100 batch size 2.5", "batch size must be a whole number of at least 1, got '2.5'"),
        # GPUs
        ("bert on 8 GPUs", "no GPU is named, such as"),
        ("bert on 8 xeon CPUs", "no GPU is named, such as"),
        ("bert on 8 A900", "no GPU is known by the name 'a900'. Nearest: A40, "),
        ("bert on 8xA1000X", "no GPU is known by the name 'a1000x'. Nearest: "),
        ("bert on 8 A100 or H100", "several GPUs are named, A100 and H100"),
        ("bert on 8 A100 40GB and 8 A100 80GB", "several GPUs are named, A100 40GB and A100 80GB"),
        ("bert on 8 H100 SXM4", "no GPU is known by exactly 'H100 SXM4'. Nearest: H100 PCIe, "),
        ("bert on 8 A100 96GB", "no GPU is known by exactly 'A100 96GB'. Nearest: A100 PCIe 40GB, "),
        ("bert on 8 A100 (30W)", "no A100 SXM4 80GB is known with a limit of 30 W"),
        # benchmarks
        ("yolo on 8 H100", "no benchmark is named. The benchmarks: "),
        ("yolov8 object detection on 8 H100", "no benchmark is named, and 'yolov8' is not known"),
        ("go on 8 H100", "no benchmark is named"),
        ("distilbert on 8 A100", "no benchmark is named. Nearest: bert"),
        ("resnet-101 on 8 A100", "no MLPerf results of 'resnet-101'. Nearest: resnet"),
        ("bert-base on 8 A100", "no MLPerf results of 'bert-base'. Nearest: bert"),
        ("gpt-3.5 on 8 H100", "no MLPerf results of 'gpt-3.5'. Nearest: gpt3"),
        ("gpt-3 13b on 8 H100", "no MLPerf results of 'gpt-3 13b'"),
        ("llama 2 7b on 8 H100", "no MLPerf results of 'llama 2 7b'. Nearest: llama2_70b_lora"),
        ("llama 3 70B on 8 H100", "no MLPerf results of 'llama 3'"),
        ("vision transformer on 8 A100", "no MLPerf results of 'vision transformer'"),
        ("stable diffusion XL on 8 H100", "no MLPerf results of 'stable diffusion xl'. Nearest: stable_diffusion"),
        ("llm on 64 H100", "'llm' may be one of bert, gpt3, llama2_70b_lora or llama31_405b: name one"),
        ("translation on 8 V100", "'translation' may be one of transformer or gnmt: name one"),
        # the question itself
        (" \n", "the question is empty"),
        ("bert on 8 A100 " + "x" * LONGEST, f"at most {LONGEST} are read"),
    ],
)
def test_a_question_with_a_fault_says_which(text, message):
    with pytest.raises(QueryError, match=message):
        parse_query(text)


def test_all_faults_are_said_at_once():
    with pytest.raises(QueryError) as caught:
        parse_query("train\x1b[31m on 0 gpus")
    message = str(caught.value)
    assert "no benchmark" in message
    assert "No GPU" in message
    assert "got 0" in message
    assert "\n" not in message
    assert "\x1b" not in message


# --- what is assumed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "note"),
    [
        ("bert on 8 A100", "device", "A100 is read as A100 SXM4 80GB; of that name are also A100 PCIe 40GB"),
        ("resnet on 8 V100s", "device", "V100s is read as several V100; of that name is also V100S PCIe 32GB"),
        ("bert on 8 L40s", "device", "L40s is read as several L40; of that name is also L40S"),
        ("bert on 8 L40s GPUs", "device", "L40s is read as L40S"),
        ("bert on H100", "count", "8 GPUs are assumed, as no number is named"),
        ("bert H100 64", "count", "64 is read as the number of GPUs"),
        ("bert on H100 in 10 minutes", "count", "8 GPUs are assumed, as no number is named"),
        ("bert on a DGX H100", "count", "8 GPUs of each DGX or HGX are assumed"),
        ("bert on 4 H100 nodes", "count", "8 GPUs of each node are assumed"),
        ("bert on 8 H100 on 4 nodes", "count", "8 is read as the number of GPUs in all, not on each of the 4 nodes"),
        ("ssd on 8 A100", "benchmark", "ssd is read as RetinaNet, which that name means since v2.0"),
        ("unet on 8 A100", "benchmark", "read as 3D U-Net"),
        ("llama2 70b on 8 H100", "benchmark", "not its pre-training"),
        ("speech on 8 A100", "benchmark", "rnnt is assumed for 'speech'"),
    ],
)
def test_what_is_assumed_is_said(text, field, note):
    found = getattr(parse_query(text), field)
    assert found.is_assumed
    assert note in found.note
    assert found.note in parse_query(text).notes


@pytest.mark.parametrize(
    "text",
    [
        "bert on 8 A100-SXM4-80GB",
        "llama2 70b lora on 8 B200",
        "gpt3 on 64 nodes of 8 H100 SXM",
        "fine-tune llama2 70b with LoRA on 8 MI300X",
    ],
)
def test_nothing_is_assumed_where_all_is_said(text):
    assert parse_query(text).notes == ()


def test_a_batch_in_thousands_and_one_per_gpu_say_so():
    assert parse_query("bert on 8 H100 bs=4k").batch_size.note == "4k is read as 4000"
    assert parse_query("bert on 8 H100 batch 32 per GPU").batch_size.note == "batch size 32 on each of 8 GPUs"


def test_words_that_no_field_is_taken_from_are_listed():
    assert parse_query("go train dlrm_dcnv2 on google cloud with 64 H100 in bf16").unread == ("google", "bf16")


# --- properties -------------------------------------------------------------------------------------------------------

SPELLINGS = {
    "bert": ("BERT", "bert", "BERT-large"),
    "resnet": ("ResNet-50", "resnet50", "resnet_50", "ResNet-50 v1.5", "resnet"),
    "gpt3": ("GPT-3", "gpt3", "GPT-3 175B"),
    "unet3d": ("3D U-Net", "unet3d", "3d unet"),
    "maskrcnn": ("Mask R-CNN", "mask_rcnn"),
    "llama2_70b_lora": ("Llama2 70B LoRA", "llama2_70b_lora"),
    "llama31_405b": ("Llama 3.1 405B", "llama31_405b"),
    "dlrm_dcnv2": ("DLRM-DCNv2", "dlrm_dcnv2"),
    "rnnt": ("RNN-T", "rnnt"),
}
BOARDS = {
    "A100 SXM4 40GB": ("A100-SXM4-40GB", "NVIDIA A100 SXM 40GB"),
    "L40S": ("L40S", "NVIDIA L40S"),
    "L40": ("L40",),
    "L4": ("L4",),
    "RTX 4090": ("RTX-4090", "RTX 4090", "GeForce RTX 4090"),
    "MI300X": ("MI300X", "AMD MI300X"),
    "GB200": ("GB200",),
    "TPU v5p": ("TPU v5p", "tpu-v5p"),
    "H100 SXM5": ("H100-SXM5-80GB", "H100 SXM", "H100"),
}
NOISE = (
    "",
    "how long does it take to train",
    "please estimate",
    "MLPerf v4.1:",
    "in bf16, ",
    "go and train",
    "cost of",
)
TAILS = ("", "?", " in 2024", " for 3 epochs", " at 0.15 USD", " please")


def numbers(draw):
    return draw.choice((1, 2, 4, 8, 12, 16, 50, 64, 90, 100, 405, 512, 1024, 3072, 11616))


def made_up(seed):
    """A question put together from spellings, and its fields."""
    draw = random.Random(seed)
    benchmark, device = draw.choice(list(SPELLINGS)), draw.choice(list(BOARDS))
    name, board, n, expected = draw.choice(SPELLINGS[benchmark]), draw.choice(BOARDS[device]), numbers(draw), {}
    digits = draw.choice((f"{n}", f"{n:,}"))
    nodes = draw.choice((2, 4, 64))
    machine, expected_n, expected_nodes = draw.choice(
        (
            (f"{digits} {board}", n, None),
            (f"{digits}x {board}", n, None),
            (f"{digits}x{board}", n, None),
            (f"{board} x{digits}", n, None),
            (f"{digits} {board} GPUs", n, None),
            (f"{board}, {digits} accelerators", n, None),
            (f"{nodes} nodes x 8 {board}", 8 * nodes, nodes),
            (f"{nodes} nodes with 4 {board} each", 4 * nodes, nodes),
            (f"{nodes} nodes of 8 {board}", 8 * nodes, nodes),
            (f"8 {board} per node on {nodes} nodes", 8 * nodes, nodes),
            (f"{nodes}x8 {board}", 8 * nodes, nodes),
        )
    )
    if expected_nodes is not None:
        expected["nodes"] = expected_nodes
    text = draw.choice((f"{name} on {machine}", f"{machine}, {name}", f"{name} with {machine}"))
    if draw.random() < 0.5:
        batch = draw.choice((32, 448, 3072))
        text += draw.choice((f" batch size {batch}", f", bs={batch}", f" with a global batch of {batch:,}"))
        expected["batch"] = batch
    if draw.random() < 0.5:
        region = draw.choice(("Germany", "South Korea", "France", "Japan"))
        text += f" in {region}"
        expected["region"] = find_region(region).code
    text = " ".join(f"{draw.choice(NOISE)} {text}{draw.choice(TAILS)}".split())
    text = draw.choice((text, text.replace(" x ", " \N{MULTIPLICATION SIGN} ").replace("-", "\N{EN DASH}"), text))
    return text, (benchmark, device, expected_n, expected)


@pytest.mark.parametrize("tens", range(40))
def test_a_question_put_together_comes_apart_again(tens):
    for seed in range(10 * tens, 10 * tens + 10):
        text, expected = made_up(seed)
        assert fields(text) == expected, text


def test_every_name_of_the_facts_is_read_as_its_board():
    for gpu in accelerators():
        names = [gpu.name, *(alias for alias in gpu.aliases if not alias.startswith("DGX"))]
        for name in (*names, *filter(None, [gpu.shared_name])):
            for text in (f"bert on {name} x16", f"bert on 16 {name.lower()} gpus"):
                assert fields(text) == ("bert", gpu.name, 16, {}), text


@pytest.mark.parametrize("name", WITH_RESULTS)
def test_every_benchmark_is_read_by_its_own_name(name):
    for spelled in (name, name.upper(), name.replace("_", " ")):
        assert fields(f"{spelled} on 16 H100 SXM5") == (name, H100, 16, {})


def test_a_benchmark_of_a_users_own_results_is_read_by_its_name():
    assert parse_query("llama31_8b on 8 H200", [*WITH_RESULTS, "llama31_8b"]).benchmark.value == "llama31_8b"
    assert parse_query("my net 2 on 8 H200", [*WITH_RESULTS, "my_net_2"]).benchmark.value == "my_net_2"


@pytest.mark.parametrize("seed", range(30))
def test_any_text_is_read_or_refused(seed):
    draw = random.Random(seed)
    words = [spelled for text, _ in questions() for spelled in text.split()]
    words += [
        "\x01",
        "\x00",
        "\ufb01",
        "\u0130",
        "\u00df",
        "\uff18",
        "x",
        "-",
        ",",
        "1,024",
        "(",
        "of",
        "each",
        "\u202e",
        "\U0001d7d6",
    ]
    for _ in range(20):
        text = draw.choice(("", " ", "  ")).join(draw.choices(words, k=draw.randint(1, 25)))[:LONGEST]
        try:
            query = parse_query(text)
        except QueryError as error:
            assert "\n" not in str(error)
            continue
        assert query.count.value >= 1
        for found in query.found.values():
            assert found.span is None or 0 <= found.span.start <= found.span.end <= len(text)


def test_spans_point_at_the_words():
    text = "How long does ResNet-50 v1.5 take on 1,024 V100-SXM2-16GB (250W), batch size 8k, in Germany?"
    query = parse_query(text)
    said = {name: found.span.of(text) for name, found in query.found.items()}
    assert said == {
        "benchmark": "ResNet-50 v1.5",
        "device": "V100-SXM2-16GB (250W)",
        "count": "1,024",
        "batch_size": "8k",
        "tdp_w": "250W",
        "region": "Germany",
    }


def test_spans_count_in_the_text_as_it_was_written():
    text = "\ufb01ne: BERT on \uff18 \uff281\uff10\uff10 SXM"  # the first is two signs in comparable form
    query = parse_query(text)
    assert query.benchmark.span.of(text) == "BERT"
    assert query.device.span.of(text) == "\uff281\uff10\uff10 SXM"
    assert query.count.value == 8


def test_a_question_as_json():
    told = json.loads(json.dumps(parse_query("bert on 2 nodes of 8 H100 in Germany").to_json()))
    assert told["benchmark"] == {"value": "bert", "span": [0, 4], "is_assumed": False, "note": None}
    assert told["count"]["value"] == 16
    assert told["nodes"]["value"] == 2
    assert told["batch_size"] is None
    assert [region["value"] for region in told["regions"]] == ["DE"]
    assert told["device"]["is_assumed"] is True
