"""Systems as submitters described them: what they compute on, how many of it, and which of the facts it is."""

from __future__ import annotations

import json

import pytest

from epochcast.gpus.lookup import find_gpu
from epochcast.mlperf.logs.devices import device_of
from epochcast.mlperf.logs.systems import System, only_like, read_system, system_of_entry

# every spelling of rounds 0.5 to 5.0 whose name alone says the device: device, limit that the name states
SPELLINGS = {
    "A100-SXM4-40GB": ("A100 SXM4 40GB", None),
    "A100-SXM4-80GB": ("A100 SXM4 80GB", None),
    "AMD Instinct MI300X 192GB HBM3": ("MI300X", None),
    "AMD Instinct MI325X 256GB HBM3E DLC": ("MI325X", None),
    "AMD Instinct MI325X 256GB HBM3e": ("MI325X", None),
    "AMD Radeon RX 7900 XTX": ("RX 7900 XTX", None),
    "Ascend 910 Premium A": ("Ascend 910", None),
    "Ascend 910 Pro A": ("Ascend 910", None),
    "Ascend910": ("Ascend 910", None),
    "Graphcore Bow IPU": ("Bow IPU", None),
    "Graphcore IPU GC200": ("IPU GC200", None),
    "H100 NVL Tensor Core GPU (PCIe)": ("H100 NVL", None),
    "Habana Gaudi": ("Gaudi", None),
    "Habana Gaudi HL-205": ("Gaudi", None),
    "Habana Gaudi2": ("Gaudi2", None),
    "Intel Gaudi2": ("Gaudi2", None),
    "Intel(R) Gaudi(R) 2 AI Accelerator": ("Gaudi2", None),
    "NVIDIA A100 - PCIe - 80 GB": ("A100 PCIe 80GB", None),
    "NVIDIA A100-PCIE-40GB": ("A100 PCIe 40GB", None),
    "NVIDIA A100-PCIE-40GB (250W)": ("A100 PCIe 40GB", 250),
    "NVIDIA A100-PCIE-80GB": ("A100 PCIe 80GB", None),
    "NVIDIA A100-PCIE-80GB (300W)": ("A100 PCIe 80GB", 300),
    "NVIDIA A100-PCIe-40GB": ("A100 PCIe 40GB", None),
    "NVIDIA A100-PCIe-40GB (250W)": ("A100 PCIe 40GB", 250),
    "NVIDIA A100-PCIe-40GB(250W)": ("A100 PCIe 40GB", 250),
    "NVIDIA A100-PCIe-80GB": ("A100 PCIe 80GB", None),
    "NVIDIA A100-PCIe-80GB (300W)": ("A100 PCIe 80GB", 300),
    "NVIDIA A100-SXM-40GB": ("A100 SXM4 40GB", None),
    "NVIDIA A100-SXM-80GB": ("A100 SXM4 80GB", None),
    "NVIDIA A100-SXM-80GB (400W)": ("A100 SXM4 80GB", 400),
    "NVIDIA A100-SXM-80GB (500W)": ("A100 SXM4 80GB", 500),
    "NVIDIA A100-SXM-80GB CTS": ("A100 SXM4 80GB", None),
    "NVIDIA A100-SXM4-40GB": ("A100 SXM4 40GB", None),
    "NVIDIA A100-SXM4-40GB (400W)": ("A100 SXM4 40GB", 400),
    "NVIDIA A100-SXM4-40GB(400W)": ("A100 SXM4 40GB", 400),
    "NVIDIA A100-SXM4-80GB": ("A100 SXM4 80GB", None),
    "NVIDIA A100-SXM4-80GB (400W)": ("A100 SXM4 80GB", 400),
    "NVIDIA A100-SXM4-80GB (500W)": ("A100 SXM4 80GB", 500),
    "NVIDIA A100-SXM4-80GB(400W)": ("A100 SXM4 80GB", 400),
    "NVIDIA A10G": ("A10G", None),
    "NVIDIA A30": ("A30", None),
    "NVIDIA A30-PCIE-24GB": ("A30", None),
    "NVIDIA A40": ("A40", None),
    "NVIDIA Blackwell GPU (B200-SXM-180GB)": ("B200 SXM", None),
    "NVIDIA Blackwell GPU (GB200)": ("GB200", None),
    "NVIDIA GeForce RTX 4090": ("RTX 4090", None),
    "NVIDIA H100 80GB HBM3": ("H100 SXM5", None),
    "NVIDIA H100-PCIe": ("H100 PCIe", None),
    "NVIDIA H100-PCIe-80GB": ("H100 PCIe", None),
    "NVIDIA H100-SXM-80GB": ("H100 SXM5", None),
    "NVIDIA H100-SXM5-80GB": ("H100 SXM5", None),
    "NVIDIA H100-SXM5-96GB": ("H100 SXM5 96GB", None),
    "NVIDIA H200-NVL-141GB": ("H200 NVL", None),
    "NVIDIA H200-SXM5-141GB": ("H200 SXM", None),
    "NVIDIA L4": ("L4", None),
    "NVIDIA L40": ("L40", None),
    "NVIDIA L40S": ("L40S", None),
    "NVIDIA RTX A5000": ("RTX A5000", None),
    "NVIDIA V100": (None, None),  # its description says nothing else: any of seven boards
    "NVIDIA V100-SXM2-16GB (300W)": ("V100 SXM2 16GB", 300),
    "NVIDIA V100-SXM2-32GB": ("V100 SXM2 32GB", None),
    "NVIDIA V100-SXM3-32GB (350W)": ("V100 SXM3 32GB", 350),
    "NVIDIA V100-SXM3-32GB (450W)": ("V100 SXM3-H 32GB", 450),
    "Nvidia Tesla V100-SXM2-32GB": ("V100 SXM2 32GB", None),
    "Nvidia Tesla V100S-PCIe-32GB": ("V100S PCIe 32GB", None),
    "TPU v3": ("TPU v3", None),
    "TPU-trillium": ("TPU v6e", None),
    "TPU-v4": ("TPU v4", None),
    "TPU-v5e": ("TPU v5e", None),
    "TPU-v5p": ("TPU v5p", None),
    "Tesla V100-PCIe-32GB": ("V100 PCIe 32GB", None),
    "Tesla V100-SXM2-16GB": ("V100 SXM2 16GB", None),
    "Tesla V100-SXM3-32GB": ("V100 SXM3 32GB", None),
    "Tesla V100-SXM3-32GB-H": ("V100 SXM3-H 32GB", None),
    "Tesla V100-SXM3-H-32GB": ("V100 SXM3-H 32GB", None),
    "tpu-v3": ("TPU v3", None),
    "tpuv2-512": ("TPU v2", None),
    "tpuv2-8": ("TPU v2", None),
    "tpuv3-32": ("TPU v3", None),
    "tpuv3-512": ("TPU v3", None),
    "tpuv3-8": ("TPU v3", None),
}


def described(**fields):
    return read_system(json.dumps(fields).encode())


def of_nodes(hardware="", **node):
    return described(division="closed", hardware=hardware, nodes=[node])


@pytest.mark.parametrize(("spelling", "expected"), SPELLINGS.items())
def test_a_spelling_of_a_description_is_its_own_device(spelling, expected):
    found = device_of(System(accelerator=spelling, n_accelerators=8))
    assert (found.name, found.power_limit_w) == expected
    assert found.spelling == spelling
    if found.name is not None:
        assert found.kind == find_gpu(found.name).kind


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"accelerator": "NVIDIA A100", "memory": "40G", "interconnect": "NVLink 600 GB/s"}, "A100 SXM4 40GB"),
        ({"accelerator": "Nvidia Tesla V100", "memory": "32GB", "interconnect": "6x 25GT/s NVLink"}, "V100 SXM2 32GB"),
        ({"accelerator": "NVIDIA A100", "memory": "40G"}, None),
        ({"accelerator": "NVIDIA A100", "interconnect": "NVLink"}, None),
        ({"accelerator": "TPU", "name": "tpu-v4-128"}, "TPU v4"),
        ({"accelerator": "TPU", "name": "a pod"}, None),
    ],
)
def test_a_name_that_says_too_little_is_completed_by_the_rest_of_the_description(fields, name):
    assert device_of(System(n_accelerators=8, **fields)).name == name


def test_a_limit_in_the_notes_counts_and_one_in_the_name_comes_first():
    fields = {"accelerator_model_name": "NVIDIA A100-SXM-80GB CTS", "hw_notes": "GPU TDP:500W"}
    assert device_of(described(**fields)).power_limit_w == 500
    fields["accelerator_model_name"] = "NVIDIA A100-SXM-80GB (400W)"
    assert device_of(described(**fields)).power_limit_w == 400


@pytest.mark.parametrize(
    ("fields", "n_nodes", "n_accelerators"),
    [
        ({"number_of_nodes": "8", "accelerators_per_node": "8"}, 8, 64),
        ({"number of nodes": "2", "accelerators_per_node": 4}, 2, 8),
        ({"number_of_nodes": 1.0, "accelerators_per_node": "10"}, 1, 10),
        ({"number_of_nodes": "many", "accelerators_per_node": "8"}, None, None),
        ({"number_of_nodes": "8"}, 8, None),
    ],
)
def test_counts_are_numbers_or_text_and_unknown_where_one_is_missing(fields, n_nodes, n_accelerators):
    system = described(accelerator_model_name="NVIDIA A30", **fields)
    assert (system.n_nodes, system.n_accelerators) == (n_nodes, n_accelerators)


@pytest.mark.parametrize("per_node", ["0", "N/A", None, ""])
def test_a_system_without_accelerators_is_counted_in_sockets(per_node):
    fields = {"number_of_nodes": "4", "host_processors_per_node": "2", "host_processor_model_name": "Xeon 8380H"}
    found = device_of(described(accelerators_per_node=per_node, accelerator_model_name="N/A", **fields))
    assert (found.name, found.kind, found.n, found.spelling) == ("CPU", "cpu", 8, "Xeon 8380H")


def test_a_tpu_of_round_05_counts_cores_in_all_and_a_gpu_its_own_of_each_node():
    tpu = of_nodes(num_nodes=64, accelerator="tpuv2-512", num_accelerators=512)
    assert (tpu.n_nodes, tpu.n_accelerators) == (64, 256)
    gpu = of_nodes(num_nodes=128, accelerator="Tesla V100-SXM2-16GB", num_accelerators=8)
    assert (gpu.n_nodes, gpu.n_accelerators) == (128, 1024)
    cpu = of_nodes("8-nodes 2x Intel Xeon", num_nodes=8, accelerator="NA", num_accelerators=0, cpu="Xeon 8180")
    assert device_of(cpu).n == 16


def test_a_description_with_a_comma_too_many_and_one_of_log_lines_are_read():
    assert read_system(b'{"number_of_nodes": "1", "accelerators_per_node": "8",\n}').n_accelerators == 8
    entry = (
        "{'hardware': 'NVIDIA DGX-2', 'nodes': \"{'num_nodes': '2', 'accelerator': 'A30', 'num_accelerators': '8'}\"}"
    )
    lines = f'division: {{"value": "closed"}}\nentry: {json.dumps({"value": entry})}\n'
    system = read_system(lines.encode())
    assert (system.n_accelerators, system.accelerator, system.division) == (16, "A30", "closed")
    assert system_of_entry(entry).n_accelerators == 16


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"nonsense", b"\xff\xfe\x00", b"{" * 10_000, b'entry: {"value": "__import__(1)"}', b"entry: {}"]
)
def test_what_is_no_description_is_none(raw):
    assert read_system(raw) is None


@pytest.mark.parametrize(
    ("text", "division"), [("closed", "closed"), ("Open", "open"), ("close", "closed"), ("x", None)]
)
def test_the_division_has_several_spellings(text, division):
    assert described(division=text).division == division
    assert described(divison=text).division == division


def test_a_folder_without_a_description_of_its_name_has_the_only_one_with_its_accelerator():
    a100, v100 = System(accelerator="NVIDIA A100-SXM4-40GB"), System(accelerator="NVIDIA V100-SXM2-32GB")
    assert only_like("a100-8", [v100, a100, v100]) is a100
    assert only_like("v100-1280", [v100, a100, v100]) is None  # a count in a name is not trusted
    assert only_like("n32_pai", [a100]) is None
