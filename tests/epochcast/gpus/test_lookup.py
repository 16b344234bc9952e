"""A GPU's name finds its own row or none; training computes in what the GPU really has."""

from __future__ import annotations

import pytest

from epochcast.facts.tables import accelerators
from epochcast.gpus import lookup as hardware
from epochcast.gpus.lookup import UnknownGpuError, find_gpu, is_same_device, known_gpu, nearest_gpus
from epochcast.gpus.rates import arithmetic_of
from epochcast.machine.gpu_driver import box_device_name
from epochcast.machine.host.host import cpu_name
from tests.support.machines.boxes import Board, plug_in

# as drivers and NVML (first block), MLPerf's system files (second) and people (third) spell them
SPELLINGS = {
    "NVIDIA A100 80GB PCIe": "A100 PCIe 80GB",
    "NVIDIA A100-PCIE-40GB": "A100 PCIe 40GB",
    "A100-PCIE-40GB": "A100 PCIe 40GB",
    "NVIDIA A100-SXM4-40GB": "A100 SXM4 40GB",
    "NVIDIA A100-SXM4-80GB": "A100 SXM4 80GB",
    "NVIDIA H100 80GB HBM3": "H100 SXM5",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H100 NVL": "H100 NVL",
    "NVIDIA H200": "H200 SXM",
    "NVIDIA H200 NVL": "H200 NVL",
    "NVIDIA GH200 480GB": "GH200 96GB",
    "NVIDIA B200": "B200 SXM",
    "NVIDIA GB200": "GB200",
    "NVIDIA L4": "L4",
    "NVIDIA L40": "L40",
    "NVIDIA L40S": "L40S",
    "NVIDIA A10": "A10",
    "NVIDIA A10G": "A10G",
    "NVIDIA A2": "A2",
    "NVIDIA A30": "A30",
    "NVIDIA A40": "A40",
    "Tesla T4": "T4",
    "Tesla P4": "P4",
    "Tesla V100-SXM2-16GB": "V100 SXM2 16GB",
    "Tesla V100-SXM2-32GB": "V100 SXM2 32GB",
    "Tesla V100-PCIE-16GB": "V100 PCIe 16GB",
    "Tesla V100S-PCIE-32GB": "V100S PCIe 32GB",
    "Tesla P100-PCIE-16GB": "P100 PCIe 16GB",
    "Quadro RTX 6000": "Quadro RTX 6000",
    "Quadro RTX 8000": "Quadro RTX 8000",
    "NVIDIA RTX A4000": "RTX A4000",
    "NVIDIA RTX A2000": "RTX A2000",
    "NVIDIA RTX A2000 12GB": "RTX A2000 12GB",
    "NVIDIA TITAN RTX": "TITAN RTX",
    "Tesla P40": "P40",
    "NVIDIA RTX A6000": "RTX A6000",
    "NVIDIA RTX 6000 Ada Generation": "RTX 6000 Ada",
    "NVIDIA GeForce RTX 3060 Ti": "RTX 3060 Ti",
    "NVIDIA GeForce RTX 4090": "RTX 4090",
    "GeForce RTX 4090": "RTX 4090",
    "NVIDIA GeForce RTX 4090 D": "RTX 4090 D",
    "NVIDIA GeForce RTX 4070 Ti": "RTX 4070 Ti",
    "NVIDIA GeForce RTX 4070 Ti SUPER": "RTX 4070 Ti SUPER",
    "AMD Instinct MI300X": "MI300X",
    # MLPerf
    "NVIDIA H100-SXM5-80GB": "H100 SXM5",
    "NVIDIA H100-SXM-80GB": "H100 SXM5",
    "NVIDIA H200-SXM5-141GB": "H200 SXM",
    "NVIDIA H200-NVL-141GB": "H200 NVL",
    "NVIDIA H100-PCIe-80GB": "H100 PCIe",
    "NVIDIA H100-PCIe": "H100 PCIe",
    "H100 NVL Tensor Core GPU (PCIe)": "H100 NVL",
    "NVIDIA Blackwell GPU (GB200)": "GB200",
    "NVIDIA Blackwell GPU (B200-SXM-180GB)": "B200 SXM",
    "NVIDIA A100-PCIe-80GB": "A100 PCIe 80GB",
    "NVIDIA A100-PCIE-80GB": "A100 PCIe 80GB",
    "NVIDIA A100 - PCIe - 80 GB": "A100 PCIe 80GB",
    "NVIDIA A100-PCIe-40GB": "A100 PCIe 40GB",
    "NVIDIA A100-SXM-80GB": "A100 SXM4 80GB",
    "NVIDIA A100-SXM-40GB": "A100 SXM4 40GB",
    "NVIDIA A30-PCIE-24GB": "A30",
    "Nvidia Tesla V100-SXM2-32GB": "V100 SXM2 32GB",
    "NVIDIA V100-SXM2-32GB": "V100 SXM2 32GB",
    "Nvidia Tesla V100S-PCIe-32GB": "V100S PCIe 32GB",
    "NVIDIA RTX A5000": "RTX A5000",
    "AMD Instinct MI300X 192GB HBM3": "MI300X",
    "AMD Instinct MI325X 256GB HBM3e": "MI325X",
    "Habana Gaudi2": "Gaudi2",
    "Intel Gaudi2": "Gaudi2",
    "Intel(R) Gaudi(R) 2 AI Accelerator": "Gaudi2",
    "tpu-v3": "TPU v3",
    "TPU v3": "TPU v3",
    "TPU-v4": "TPU v4",
    "TPU-v5p": "TPU v5p",
    "TPU-v5e": "TPU v5e",
    "TPU-trillium": "TPU v6e",
    # people
    "a100 pcie 80gb": "A100 PCIe 80GB",
    "rtx3090": "RTX 3090",
    "  RTX_3090 ": "RTX 3090",
    "rtx 3080ti": "RTX 3080 Ti",
    "rtx 3060 12gb": "RTX 3060 12GB",
    "H20-96GB": "H20 96GB",
    "L40s": "L40S",
    "NVIDIA GeForce RTX™ 4090": "RTX 4090",
    "NVIDIA(R) Tesla(R) T4": "T4",
}
POWERED = {
    "NVIDIA A100-SXM4-80GB (400W)": ("A100 SXM4 80GB", 400),
    "NVIDIA A100-SXM4-80GB(400W)": ("A100 SXM4 80GB", 400),
    "NVIDIA A100-SXM4-80GB (500W)": ("A100 SXM4 80GB", 500),
    "NVIDIA A100-SXM-80GB (500W)": ("A100 SXM4 80GB", 500),
    "NVIDIA A100-PCIE-80GB (300W)": ("A100 PCIe 80GB", 300),
    "NVIDIA A100-PCIe-40GB(250W)": ("A100 PCIe 40GB", 250),
    "NVIDIA V100-SXM2-16GB (300W)": ("V100 SXM2 16GB", 300),
    "a100pcie80gb300w": ("A100 PCIe 80GB", 300),
    "RTX 3090 280 W": ("RTX 3090", 280),
    "TPU v4 170W": ("TPU v4", 170),  # no limit of its own to compare with
}
SHARED = {
    "NVIDIA GeForce RTX 3050": ("RTX 3050 8GB", 6),
    "NVIDIA GeForce RTX 3060": ("RTX 3060 12GB", 8),
    "NVIDIA GeForce RTX 3080": ("RTX 3080 10GB", 12),
    "NVIDIA GeForce RTX 4060 Ti": ("RTX 4060 Ti 8GB", 16),
    "NVIDIA GeForce RTX 5060 Ti": ("RTX 5060 Ti 16GB", 8),
    "NVIDIA H20": ("H20 96GB", 141),
}
GIB_IN_GB = 2**30 / 1e9  # what is sold as 12 GB is 12 GiB to the driver
# ambiguous, of another kind, or not in the table: never another GPU's row
STRANGERS = [
    "A100",
    "NVIDIA A100",
    "A100 PCIe",
    "A100 80GB",
    "H100",
    "NVIDIA H100",
    "V100",
    "Nvidia Tesla V100",
    "RTX 6000",
    "RTX A1000",
    "NVIDIA RTX A1000",
    "T400",
    "NVIDIA T400",
    "NVIDIA T400 4GB",
    "NVIDIA GeForce RTX 4090 Laptop GPU",
    "RTX 4090 Laptop",
    "NVIDIA RTX A2000 Laptop GPU",
    "NVIDIA RTX A400",
    "Tesla K80",
    "NVIDIA GeForce RTX 3080 Laptop GPU",
    "NVIDIA A100-SXM-64GB",
    "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
    "NVIDIA A100 80GB PCIe MIG 3g.40gb",
    "NVIDIA H100-SXM5-64GB",
    "V100-SXM3-16GB (450W)",
    "AMD Radeon RX 7900 XT",
    "Graphcore IPU",
    "Ascend 910B",
    "TPU",
    "N/A",
    "4090",
    "GPU",
    "NVIDIA",
    "",
    "(300W)",
]


@pytest.mark.parametrize(("spelling", "name"), SPELLINGS.items())
def test_a_spelling_finds_its_own_gpu(spelling, name):
    assert find_gpu(spelling).name == name


@pytest.mark.parametrize("gpu", accelerators(), ids=lambda gpu: gpu.name)
def test_every_name_and_alias_finds_its_row_unchanged(gpu):
    for spelling in (gpu.name, *gpu.aliases, gpu.name.lower(), f"NVIDIA {gpu.name}", gpu.name.replace(" ", "-")):
        assert find_gpu(spelling) is gpu


@pytest.mark.parametrize(("spelling", "expected"), POWERED.items())
def test_a_power_limit_in_the_name_wins_and_is_said(spelling, expected):
    gpu = find_gpu(spelling)
    assert (gpu.name, gpu.tdp_w) == expected
    assert f"{expected[1]} W from the name {spelling!r}" in gpu.notes


@pytest.mark.parametrize("name", STRANGERS)
def test_an_unknown_or_ambiguous_name_lists_the_nearest_and_gives_no_number(name):
    with pytest.raises(UnknownGpuError) as caught:
        find_gpu(name)
    message = str(caught.value)
    assert repr(name) in message
    assert "epochcast facts gpus" in message
    assert not any(f"{gpu.memory_bandwidth_gbs:g} GB/s" in message for gpu in accelerators())


def test_no_part_of_a_known_name_finds_another_gpu():
    """Every name cut at either end finds nothing, or what it is itself a full name of."""
    for gpu in accelerators():
        for name in (gpu.name, *gpu.aliases):
            parts = name.split()
            for part in (" ".join(parts[:-1]), " ".join(parts[1:])):
                try:
                    found = find_gpu(part)
                except UnknownGpuError:
                    continue
                own = {"".join(hardware.words_of(n)) for n in (found.name, *found.aliases)}
                assert "".join(hardware.words_of(part)) in own


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("3090", ["RTX 3090", "RTX 3090 Ti"]),
        ("H100", ["H100 PCIe", "H100 SXM5", "H100 SXM5 96GB", "H100 NVL"]),
        ("NVIDIA H200", ["H200 SXM", "H200 NVL"]),
        ("A4000", ["RTX A4000"]),
    ],
)
def test_where_names_contain_the_word_no_other_is_listed(name, nearest):
    assert nearest_gpus(name) == nearest


def test_the_nearest_names_of_an_ambiguous_one_are_those_it_could_mean():
    assert nearest_gpus("NVIDIA A100")[:4] == ["A100 PCIe 40GB", "A100 SXM4 40GB", "A100 PCIe 80GB", "A100 SXM4 80GB"]
    assert set(nearest_gpus("RTX 6000")[:3]) == {"Quadro RTX 6000", "RTX 6000 Ada", "RTX PRO 6000 Blackwell"}
    assert nearest_gpus("NVIDIA A100-SXM4-80GB MIG 1g.10gb")[0] == "A100 SXM4 80GB"
    assert nearest_gpus("GeForce RTX 4090 Laptop GPU")[0] == "RTX 4090"


@pytest.mark.parametrize(("name", "expected"), SHARED.items())
def test_a_name_of_boards_of_different_memory_needs_the_memory(name, expected):
    row, other_gb = expected
    with pytest.raises(UnknownGpuError, match=f"{name}' is the name of boards of different memory.*: {row}"):
        find_gpu(name)
    assert find_gpu(row).name == row
    with pytest.raises(UnknownGpuError, match=f"no '{name}' with .* GB is known; known by that name: {row}"):
        find_gpu(name, other_gb * GIB_IN_GB)
    assert find_gpu(name, find_gpu(row).memory_gb * GIB_IN_GB).name == row
    assert {gpu.shared_name for gpu in accelerators() if gpu.shared_name} == set(SHARED)


@pytest.mark.parametrize(("gib", "name"), [(140.4, "NVIDIA H200"), (22.5, "NVIDIA A10"), (14.75, "Tesla T4")])
def test_a_board_of_another_memory_is_not_the_one_of_this_name(gib, name):
    assert find_gpu(name, gib * GIB_IN_GB).name
    for other in (0.5 * gib, 0.8 * gib, 1.25 * gib, 2 * gib):
        with pytest.raises(UnknownGpuError, match=f"no '{name}' with .* GB is known; .* has "):
            find_gpu(name, other * GIB_IN_GB)


@pytest.mark.parametrize("name", ["RTX 3090 30W", "RTX 3090 (600W)", "NVIDIA A100-SXM4-80GB (4000W)", "T4 300 W"])
def test_a_power_that_the_board_cannot_have_names_both(name):
    power = name.rstrip("W) ").split("(")[-1].split()[-1]
    with pytest.raises(UnknownGpuError, match=rf"limit of {power} W; its data sheet's is \d+ W"):
        find_gpu(name)


# --- this box ---------------------------------------------------------------------------------------------------------


def facts_of_box():
    gpu = known_gpu(box_device_name())
    return None if gpu is None else gpu.name


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], None),
        (["NVIDIA H200", "NVIDIA L4"], "H200 SXM"),
        (["NVIDIA RTX A1000"], None),
        (["NVIDIA GeForce RTX 3060"], None),  # its memory is not known
    ],
)
def test_without_nvml_the_gpu_of_this_box_is_the_first_that_the_kernel_lists(monkeypatch, tmp_path, names, found):
    plug_in(monkeypatch, tmp_path, proc=names)
    assert facts_of_box() == found
    assert box_device_name() == (names[0] if names else cpu_name())


@pytest.mark.parametrize(
    ("visible", "boards", "found"),
    [
        (None, [Board("NVIDIA H200", 141.0), Board("NVIDIA L4", 24.0)], "H200 SXM"),
        ("1", [Board("NVIDIA H200", 141.0), Board("NVIDIA L4", 24.0)], "L4"),
        ("GPU-1", [Board("NVIDIA H200", 141.0), Board("NVIDIA L4", 24.0)], "L4"),
        ("", [Board("NVIDIA H200", 141.0)], None),  # hidden from this process
        (None, [], None),
        (None, [Board("NVIDIA GeForce RTX 3060", 12.0)], "RTX 3060 12GB"),
        (None, [Board("NVIDIA GeForce RTX 3060", 8.0)], None),
        (None, [Board("NVIDIA GeForce RTX 3060", None)], None),
        (None, [Board("NVIDIA GeForce RTX 3080", 12.0)], None),  # the facts have the one of 10 GB
        (None, [Board("NVIDIA A100-SXM4-80GB", 40.0)], None),  # the name says one thing, its driver another
        (None, [Board("NVIDIA RTX A2000", 12.0)], None),
        (None, [Board("Tesla T4", 14.75)], "T4"),  # a driver keeps some
        (None, [Board("NVIDIA A100-SXM4-80GB", None, instances=(Board(None), Board(None)))], None),
        (None, [Board(None)], None),
    ],
)
def test_the_gpu_of_this_box_is_the_one_that_a_run_would_use(monkeypatch, tmp_path, visible, boards, found):
    plug_in(monkeypatch, tmp_path, boards)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert facts_of_box() == found


@pytest.mark.parametrize(
    ("device_name", "found"),
    [
        ("NVIDIA GeForce RTX 3060", "RTX 3060 12GB"),  # this box's: its driver tells the memory
        ("NVIDIA GeForce RTX 3080", None),  # another box's, of a name that several cards share
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"),
        ("AMD EPYC (2 cores)", None),
        (None, None),
    ],
)
def test_a_device_of_rows_has_facts_where_its_name_or_this_box_says_which(monkeypatch, tmp_path, device_name, found):
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA GeForce RTX 3060", 12.0)])
    gpu = known_gpu(device_name)
    assert (None if gpu is None else gpu.name) == found


# --- arithmetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "precision", "tf32", "arithmetic"),
    [
        ("A100 PCIe 80GB", "float32", "on", "tf32"),
        ("A100 PCIe 80GB", "float32", "off", "fp32"),
        ("A100 PCIe 80GB", "float32", None, "fp32"),
        ("A100 PCIe 80GB", "mixed_float16", "on", "fp16"),
        ("A100 PCIe 80GB", "mixed_bfloat16", None, "bf16"),
        ("T4", "float32", "on", "fp32"),
        ("T4", "mixed_float16", None, "fp16"),
    ],
)
def test_training_computes_in_what_the_gpu_has(gpu, precision, tf32, arithmetic):
    assert arithmetic_of(precision, tf32, find_gpu(gpu)) == arithmetic
    assert find_gpu(gpu).tflops(arithmetic) is not None


@pytest.mark.parametrize(
    ("gpu", "precision", "message"),
    [
        ("T4", "mixed_bfloat16", r"T4 has no known bf16 rate.*fp32 8.1, fp16 65\."),
        ("P4", "mixed_float16", "P4 has no known fp16 rate"),
        ("TPU v3", "float32", "TPU v3 has no known fp32 rate"),
        ("A30", "float64", "no precision 'float64'; use one of float32, mixed_float16, mixed_bfloat16"),
    ],
)
def test_a_precision_that_a_gpu_lacks_is_one_clear_error(gpu, precision, message):
    with pytest.raises(ValueError, match=message):
        arithmetic_of(precision, None, find_gpu(gpu))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB", True),
        ("Tesla T4", "NVIDIA T4", True),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB", False),
        ("NVIDIA Fake 100", "NVIDIA Fake 100", True),
        ("NVIDIA Fake 100", "Fake 100", False),
        ("NVIDIA GeForce RTX 3060", "GeForce RTX 3060", True),  # of boards of different memory, renamed
        ("NVIDIA GeForce RTX 3060", "NVIDIA GeForce RTX 3060 Ti", False),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", False),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA A100-SXM4-40GB MIG 2g.10gb", False),
        ("unknown GPU 1f2e3d4c", "unknown GPU 5a6b7c8d", False),
        ("AMD EPYC (2 cores)", "AMD EPYC (4 cores)", False),
        (None, None, True),
        (None, "Tesla T4", False),
    ],
)
def test_two_names_of_one_board_mean_one_device(one, other, is_same):
    assert is_same_device(one, other) == is_same_device(other, one) == is_same
