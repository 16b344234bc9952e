"""`epochcast explain`: where an epoch's time goes, layer by layer, which roof binds, how near to its peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from epochcast.cli import (
    add_conditions_flag,
    add_config_flags,
    add_json_flag,
    add_plot_flag,
    configs_of,
    json_line,
    make_parser,
    print_home,
    print_notes,
    run_command,
)
from epochcast.flag_types import path_of, positive_int
from epochcast.gpus.lookup import BYTES_PER_GB, FLOPS_PER_TFLOPS
from epochcast.interval import with_ends
from epochcast.keras_files.inputs import shape_asked
from epochcast.keras_files.read_file import read_network
from epochcast.machine.gpu_driver import box_device_name, refusal_notes
from epochcast.model.answers.measured_json import measured_rows
from epochcast.model.answers.this_box import differences
from epochcast.model.explanation.attribution import has_term, law_parts, layer_groups
from epochcast.model.explanation.device import Device, device_of
from epochcast.model.explanation.efficiency import efficiencies
from epochcast.model.explanation.epoch_time import ROOF, time_of
from epochcast.model.explanation.text import ABOVE_ROOF_NOTE, explanation_text, is_above_roof
from epochcast.roofline.network import NO_ROOF, EpochLayer, TrainedNetwork, epoch_layers
from epochcast.roofline.roofline import COMPUTE, MEMORY, count_params
from epochcast.schema import DEFAULT_CONFIG, NETWORK_AXES, PRECISIONS, TRAIN_N, RunConfig
from epochcast.workload.shape import trained_cnn


def explain(device: Device, network: TrainedNetwork, config: RunConfig | None) -> dict[str, Any]:
    """The whole explanation in full precision; `config` where the network is our CNN, which models predict.

    Raises:
        ValueError: if nothing tells the network's time.
    """
    layers = epoch_layers(network, device.roof or NO_ROOF)
    roofs = _roofs(device, network, layers)
    time = time_of(device, network, config, roofs)
    split, seconds = time.attribution, time.seconds
    saved = device.choice.model
    law = saved.plain_law if device.is_calibrated else None
    work = network.work
    flop = work.images * work.train_flop
    flops = None if time.basis == ROOF else flop / seconds.value
    scaling = time.scaling
    layer_answers = [
        _layer(layer, device, None if split is None else split.layers[i]) for i, layer in enumerate(layers)
    ]
    return {
        "network": network.name,
        "config": None if config is None else asdict(config),
        "batch_size": network.batch_size,
        "train_n": network.images,
        "steps_per_epoch": work.steps,
        "params": count_params(network.records),
        "optimizer": network.optimizer,
        "not_counted": list(network.not_counted),
        "device": device.name,
        "this_box": box_device_name(),
        "is_this_box": device.is_here,
        "domain": None if config is None or time.basis == ROOF else saved.range.place(config, saved.widths.axes),
        "precision": device.precision,
        "arithmetic": device.arithmetic,
        "calibrated": device.is_calibrated,
        **with_ends("predicted_avg_time_sec", seconds),
        "basis": time.basis,
        "basis_words": time.words,
        "device_share": None if scaling is None else scaling.share,
        **with_ends("device_time_ratio", None if scaling is None else scaling.ratio),
        "held_at_roof": None if scaling is None else scaling.limited,
        "parts": None if split is None else split.groups,
        "terms": None if split is None else split.terms,
        "law_sec": None if law is None else sum(law_parts(network, law).values()),
        "train_flop_per_epoch": flop,
        "flops": flops,
        "share_of_peak": None if flops is None or device.roof is None else flops / device.roof.flops,
        "roofs": roofs,
        "efficiencies": [
            {**asdict(e), "words": str(e)} for e in efficiencies(law, network, device.roof, device.arithmetic)
        ]
        if law is not None
        else None,
        "layers": layer_answers,
        "of_no_layer": None if split is None else split.of_no_layer,
        **_answering(device, network, time.basis),
        "notes": [
            *device.notes,
            *_framework_notes(device),
            *network.notes,
            *([ABOVE_ROOF_NOTE] if any(map(is_above_roof, layer_answers)) else []),
        ],
    }


def _framework_notes(device: Device) -> list[str]:
    """Say where a run on this box takes another framework than the model."""
    found = differences(device.choice.model.conditions, device.precision) if device.is_here else []
    return [f"{each}: what that changes is not known" for each in found if each.name not in ("device", "precision")]


def _roofs(device: Device, network: TrainedNetwork, layers: Sequence[EpochLayer]) -> dict[str, Any] | None:
    """The device's peaks and what an epoch takes at least under them; None where they are not known."""
    roof = device.roof
    if roof is None:
        return None
    under = {bound: sum(layer.sec for layer in layers if layer.bound(roof) == bound) for bound in (COMPUTE, MEMORY)}
    n_kernels = sum(layer.n_kernels for layer in layers)
    return {
        "peak_tflops": roof.flops / FLOPS_PER_TFLOPS,
        "peak_gb_per_sec": roof.bytes_per_sec / BYTES_PER_GB,
        "ridge_flop_per_byte": roof.ridge,
        "attainable_sec": sum(under.values()),
        "compute_bound_sec": under[COMPUTE],
        "memory_bound_sec": under[MEMORY],
        "binds": max(under, key=lambda bound: under[bound]),
        "kernels_per_step": n_kernels,
        "launch_sec": network.work.steps * n_kernels * roof.launch_sec,
        "source": None if device.gpu is None else device.gpu.source,
    }


def _layer(layer: EpochLayer, device: Device, parts: dict[str, float] | None) -> dict[str, Any]:
    record, roof = layer.record, device.roof
    attributed = None if parts is None else sum(parts.values())
    return {
        "name": record.name,
        "kind": record.kind,
        "output_shape": list(record.output_shape),
        "params": record.params,
        "flop": layer.flop,
        "bytes": layer.bytes,
        "intensity": layer.intensity,
        "kernels_per_step": layer.n_kernels,
        "bound": None if roof is None else layer.bound(roof),
        "attainable_sec": None if roof is None else layer.sec,
        "attributed_sec": attributed,
        "attributed": None if parts is None else layer_groups(parts),
        "flops": None if not attributed else layer.flop / attributed,
        "share_of_roof": None if roof is None or not attributed else layer.sec / attributed,
    }


def _answering(device: Device, network: TrainedNetwork, basis: str) -> dict[str, Any]:
    """The model that answers; where nothing of it holds here, what it measured elsewhere."""
    saved = device.choice.model
    own = saved.conditions
    readings = {name: words for name, words in saved.plain_law.readings().items() if has_term(network, name)}
    elsewhere = {"device": own.device_name, "precision": own.precision, "readings": readings}
    return {
        "model": None if basis == ROOF else str(saved.path),
        "answered_because": None if basis == ROOF else device.choice.reason,
        "conditions": None if basis == ROOF else asdict(own),
        "readings": readings if device.is_calibrated else None,
        "measured_elsewhere": None if device.is_calibrated else elsewhere,
    }


def _shape(text: str) -> tuple[str | None, tuple[int, ...]]:
    """A sample's shape, with the name of its input where one is given: `128,128,3`, `left=128,8`."""
    name, _, sizes = text.rpartition("=")
    return name or None, tuple(positive_int(size) for size in sizes.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast explain",
        "Where an epoch's time goes: input and host, steps, arithmetic, memory; then layer by layer, beside what the\n"
        "GPU's peaks allow. Of the CNN that is measured here, or of any Keras network.",
        f"epochcast explain {' '.join(RunConfig(3, 32, 512).flags)} --plot roofline.png",
    )
    of_network = {a.name: f"{a.what} (default: {getattr(DEFAULT_CONFIG, a.name)})" for a in NETWORK_AXES}
    add_config_flags(parser, defaults={"batch_size": DEFAULT_CONFIG.batch_size}, texts=of_network)
    parser.add_argument("--network", type=path_of, metavar="FILE.keras", help="a network of your own, saved by Keras")
    parser.add_argument(
        "--train_n", type=positive_int, help=f"samples an epoch, with --network (default: the model's, else {TRAIN_N})"
    )
    parser.add_argument(
        "--sample_shape",
        type=_shape,
        action="append",
        default=[],
        metavar="[NAME=]N,...",
        help="of one sample of --network, where it leaves that open; of each of several inputs by its name",
    )
    parser.add_argument(
        "--allow_unknown", action="store_true", help="go on where layers of --network can't be counted, naming them"
    )
    parser.add_argument(
        "--code",
        type=path_of,
        action="append",
        default=[],
        metavar="FILE.py",
        help="run this file of yours, which defines classes of --network; may be repeated",
    )
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help="explain on this GPU, as predict_perf --gpu carries a time over; default: the answering model's device",
    )
    parser.add_argument("--model", type=path_of, metavar="PATH", help="a saved .keras time model; default: chosen")
    add_conditions_flag(parser, "take only a model that was learned under these, e.g. precision=mixed_float16")
    parser.add_argument(
        "--precision", choices=list(PRECISIONS), help="explain in this one, carried over; default: the model's"
    )
    add_plot_flag(parser, "the roofline")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    given = [f"--{name}" for name in of_network if getattr(arguments, name) is not None]
    if arguments.network is not None and given:
        parser.error(f"{' and '.join(given)} describe our CNN; --network brings its own layers. Leave one out.")
    with_network = (arguments.train_n, arguments.sample_shape, arguments.allow_unknown, arguments.code)
    if arguments.network is None and any(with_network):
        parser.error("--train_n, --sample_shape, --allow_unknown and --code go with --network")
    try:
        sample_shape = shape_asked(arguments.sample_shape)
    except ValueError as error:
        parser.error(str(error))

    def work() -> int:
        print_home()
        print_notes(refusal_notes())
        config = None
        if arguments.network is None:
            (config,) = configs_of(arguments)
        device = device_of(
            config,
            arguments.gpu,
            arguments.model,
            arguments.conditions,
            arguments.precision,
            measured_rows() if arguments.gpu or arguments.precision else (),
        )
        is_told = device.is_calibrated or device.answer is not None or device.carried_to is not None
        images = arguments.train_n or (device.choice.model.train_n if is_told else TRAIN_N)
        if config is not None:
            network = trained_cnn(config, images, device.precision)
        else:
            network = read_network(
                arguments.network,
                arguments.batch_size,
                images,
                device.precision,
                sample_shape,
                arguments.allow_unknown,
                arguments.code,
            )
        answer = explain(device, network, config)
        if arguments.plot is not None:
            from epochcast.model.explanation.roofline_figure import draw_roofline
            from epochcast.output.figures import save_figure_as

            save_figure_as(draw_roofline(answer), arguments.plot)
        print(json_line(answer) if arguments.json else explanation_text(answer))
        if arguments.plot is not None and not arguments.json:
            print(f"plot: {arguments.plot.absolute()}")
        return 0

    return run_command(work)
