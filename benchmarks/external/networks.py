"""The networks of the published tables: builder, family and published number of parameters.

Builders are named by module and function, so that Keras is loaded only where a network is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CONVOLUTIONAL, TRANSFORMER = "convolutional", "transformer"
MODULES = "benchmarks.external.builders"


@dataclass(frozen=True)
class Network:
    """One network; `millions` are its published trained parameters."""

    family: str
    builder: str  # `module.function` of builders, or a name of keras.applications
    options: Mapping[str, Any] = field(default_factory=dict)
    millions: float | None = None
    kind: str = CONVOLUTIONAL
    tolerance: float = 0.001  # of the parameters: more where a small part is left out, or published figures are rounded
    sized_by: str | None = "size"  # the builder's argument for pixels or tokens; None: it has one size

    def build(self, size: int) -> Any:  # a keras.Model
        """Return the network without weights, for this many pixels a side or tokens."""
        options = dict(self.options)
        module, _, function = self.builder.rpartition(".")
        if not module:
            import keras

            return getattr(keras.applications, function)(weights=None, input_shape=(size, size, 3), **options)
        if self.sized_by is not None:
            options[self.sized_by] = size
        built = getattr(importlib.import_module(f"{MODULES}.{module}"), function)
        if "kind" in options:
            from benchmarks.external.builders.residual import Residual

            options["kind"] = Residual(**options["kind"])
        return built(**options)


def _residual(family: str, depths: tuple[int, ...], millions: float, **others: Any) -> Network:
    options = {"kind": {"depths": depths, **others}}
    return Network(family, "residual.residual", options, millions)


def _plain(family: str, function: str, millions: float, **options: Any) -> Network:
    return Network(family, f"plain.{function}", options, millions)


def _language(family: str, function: str, millions: float, **options: Any) -> Network:
    """Leave out tables of positions; scores of words have a table of their own, in `millions`."""
    return Network(family, f"transformers.{function}", options, millions, TRANSFORMER, 0.01, "positions")


def _application(family: str, name: str, millions: float, tolerance: float = 0.003, **options: Any) -> Network:
    return Network(family, name, options, millions, tolerance=tolerance)


D18, D50, D101, D152, D200 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3), (3, 24, 36, 3)
BASIC: dict[str, Any] = {"is_bottleneck": False}
DEEP: dict[str, Any] = {"deep_stem": True, "pool_shortcut": True}
EXCITED: dict[str, Any] = {"excite": True}
G4: dict[str, Any] = {"groups": 32, "width_per_group": 4}
G8: dict[str, Any] = {"groups": 32, "width_per_group": 8}
G64: dict[str, Any] = {"groups": 64, "width_per_group": 4}
FIRST: dict[str, Any] = {"strided": 1}

NETWORKS: dict[str, Network] = {
    # torchvision's
    "resnet18": _residual("resnet", D18, 11.690, **BASIC),
    "resnet34": _residual("resnet", D50, 21.798, **BASIC),
    "resnet50": _residual("resnet", D50, 25.557),
    "resnet101": _residual("resnet", D101, 44.549),
    "resnet152": _residual("resnet", D152, 60.193),
    "wide_resnet50_2": _residual("resnet", D50, 68.883, width_per_group=128),
    "wide_resnet101_2": _residual("resnet", D101, 126.887, width_per_group=128),
    "resnext50_32x4d": _residual("resnext", D50, 25.029, **G4),
    "resnext101_32x8d": _residual("resnext", D101, 88.791, **G8),
    "vgg11": _plain("vgg", "vgg", 132.863, depths=(1, 1, 2, 2, 2), is_normed=False),
    "vgg11_bn": _plain("vgg", "vgg", 132.869, depths=(1, 1, 2, 2, 2), is_normed=True),
    "vgg13": _plain("vgg", "vgg", 133.048, depths=(2, 2, 2, 2, 2), is_normed=False),
    "vgg13_bn": _plain("vgg", "vgg", 133.054, depths=(2, 2, 2, 2, 2), is_normed=True),
    "vgg16": _plain("vgg", "vgg", 138.358, depths=(2, 2, 3, 3, 3), is_normed=False),
    "vgg16_bn": _plain("vgg", "vgg", 138.366, depths=(2, 2, 3, 3, 3), is_normed=True),
    "vgg19": _plain("vgg", "vgg", 143.667, depths=(2, 2, 4, 4, 4), is_normed=False),
    "vgg19_bn": _plain("vgg", "vgg", 143.678, depths=(2, 2, 4, 4, 4), is_normed=True),
    "densenet121": _plain("densenet", "densenet", 7.979, depths=(6, 12, 24, 16), growth=32, first=64),
    "densenet161": _plain("densenet", "densenet", 28.681, depths=(6, 12, 36, 24), growth=48, first=96),
    "densenet169": _plain("densenet", "densenet", 14.149, depths=(6, 12, 32, 32), growth=32, first=64),
    "densenet201": _plain("densenet", "densenet", 20.014, depths=(6, 12, 48, 32), growth=32, first=64),
    "squeezenet1_0": _plain("squeezenet", "squeezenet", 1.2484, first=96, kernel=7, pools=(3, 7)),
    "squeezenet1_1": _plain("squeezenet", "squeezenet", 1.2355, first=64, kernel=3, pools=(2, 4)),
    "mobilenet_v2": Network("mobilenet", "mobile.mobilenet_v2", {"width": 1.0}, 3.5049),
    "mnasnet0_5": Network("mobilenet", "mobile.mnasnet", {"width": 0.5}, 2.2185),
    "mnasnet0_75": Network("mobilenet", "mobile.mnasnet", {"width": 0.75}, 3.1702),
    "mnasnet1_0": Network("mobilenet", "mobile.mnasnet", {"width": 1.0}, 4.3833),
    "mnasnet1_3": Network("mobilenet", "mobile.mnasnet", {"width": 1.3}, 6.2823),
    "shufflenet_v2_x0_5": Network(
        "shufflenet", "mobile.shufflenet_v2", {"widths": (48, 96, 192), "last": 1024}, 1.3668
    ),
    "shufflenet_v2_x1_0": Network(
        "shufflenet", "mobile.shufflenet_v2", {"widths": (116, 232, 464), "last": 1024}, 2.2786
    ),
    "shufflenet_v2_x1_5": Network(
        "shufflenet", "mobile.shufflenet_v2", {"widths": (176, 352, 704), "last": 1024}, 3.5036
    ),
    "shufflenet_v2_x2_0": Network(
        "shufflenet", "mobile.shufflenet_v2", {"widths": (244, 488, 976), "last": 2048}, 7.3940
    ),
    # tf_cnn_benchmarks', torch7's and TensorFlow's own; version 1 of ResNet has its strides in 1x1 convolutions
    "alexnet_tf": Network(
        "alexnet",
        "plain.alexnet",
        {"filters": (64, 192, 384, 384, 256), "groups": 1, "is_normed": False},
        62.0,
        tolerance=0.02,
        sized_by=None,
    ),
    "alexnet_bvlc": Network(
        "alexnet",
        "plain.alexnet",
        {"filters": (96, 256, 384, 384, 256), "groups": 2, "is_normed": True},
        60.965,
        sized_by=None,
    ),
    "inception_v1": Network("inception", "inception.inception_v1", {}, 6.9986),
    "inception_v3": _application("inception", "InceptionV3", 23.835),
    "inception_v4": Network("inception", "inception.inception_v4", {}, 42.680),
    "resnet50_v1": _residual("resnet", D50, 25.557, **FIRST),
    "resnet101_v1": _residual("resnet", D101, 44.549, **FIRST),
    "resnet152_v1": _residual("resnet", D152, 60.193, **FIRST),
    "resnet200_v2": Network("resnet", "residual.preactivated", {"depths": D200}, 64.667),
    # NVIDIA's DeepLearningExamples
    "resnet50_v15": _residual("resnet", D50, 25.557),
    "resnext101_32x4d": _residual("resnext", D101, 44.178, **G4),
    "se_resnext101_32x4d": _residual("resnext", D101, 48.955, **G4, **EXCITED),
    "efficientnet_b0": _application("efficientnet", "EfficientNetB0", 5.2885),
    "efficientnet_b4": _application("efficientnet", "EfficientNetB4", 19.342),
    "unet_medical": Network("unet", "segmentation.unet_medical", {}, 31.031),
    "unet_industrial": Network("unet", "segmentation.unet_industrial", {}, 1.8249, tolerance=0.02),
    "unet3d_medical": Network("unet3d", "segmentation.unet_solid", {}, 31.2, tolerance=0.02),
    "nnunet3d": Network("unet3d", "segmentation.unet_solid", {}, 31.2, tolerance=0.02),
    # transformers
    **{
        name: _language("bert", "bert", 335.1, depth=24, width=1024, heads=16)
        for name in ("bert_large_seq128", "bert_large_squad384", "bert_large_seq512")
    },
    "gpt2_large_seq1024": _language("gpt", "gpt", 774.0 + 64.3, depth=36, width=1280, heads=20),
    "gpt3_xl_seq2048": _language("gpt", "gpt", 1315.6 + 102.9, depth=24, width=2048, heads=16),
    "gpt3_27_seq2048": _language("gpt", "gpt", 2651.3 + 128.7, depth=32, width=2560, heads=32),
    "opt_13_seq2048": _language(
        "gpt", "gpt", 1315.8 + 103.0, depth=24, width=2048, heads=32, words=50272, activation="relu"
    ),
}


def _vit(depth: int, width: int, heads: int, patch: int, millions: float) -> Network:
    options = {"depth": depth, "width": width, "heads": heads, "patch": patch}
    return Network("vit", "transformers.vit", options, millions, TRANSFORMER, 0.01)


# timm's names of networks that are not among the above; its table gives millions of parameters with two digits
TIMM: dict[str, Network] = {
    "resnet26": _residual("resnet", D18, 16.00),
    "resnet200": _residual("resnet", D200, 64.67),
    "gluon_resnet50_v1c": _residual("resnet", D50, 25.58, deep_stem=True),
    "gluon_resnet101_v1c": _residual("resnet", D101, 44.57, deep_stem=True),
    "gluon_resnet152_v1c": _residual("resnet", D152, 60.21, deep_stem=True),
    "resnet18d": _residual("resnet", D18, 11.71, **DEEP, **BASIC),
    "resnet26d": _residual("resnet", D18, 16.01, **DEEP),
    "resnet34d": _residual("resnet", D50, 21.82, **DEEP, **BASIC),
    "resnet50d": _residual("resnet", D50, 25.58, **DEEP),
    "resnet101d": _residual("resnet", D101, 44.57, **DEEP),
    "resnet152d": _residual("resnet", D152, 60.21, **DEEP),
    "resnet200d": _residual("resnet", D200, 64.69, **DEEP),
    "resnext50d_32x4d": _residual("resnext", D50, 25.05, **G4, **DEEP),
    "resnext101_64x4d": _residual("resnext", D101, 83.46, **G64),
    "ig_resnext101_32x16d": _residual("resnext", D101, 194.03, groups=32, width_per_group=16),
    "ig_resnext101_32x32d": _residual("resnext", D101, 468.53, groups=32, width_per_group=32),
    "seresnet34": _residual("resnet", D50, 21.96, **BASIC, **EXCITED),
    "seresnet50": _residual("resnet", D50, 28.09, **EXCITED),
    "seresnet101": _residual("resnet", D101, 49.33, **EXCITED),
    "seresnet152": _residual("resnet", D152, 66.82, **EXCITED),
    "legacy_seresnet50": _residual("resnet", D50, 28.09, **EXCITED, **FIRST),
    "legacy_seresnet101": _residual("resnet", D101, 49.33, **EXCITED, **FIRST),
    "seresnext50_32x4d": _residual("resnext", D50, 27.56, **G4, **EXCITED),
    "seresnext101_32x4d": _residual("resnext", D101, 48.96, **G4, **EXCITED),
    "seresnext101_32x8d": _residual("resnext", D101, 93.57, **G8, **EXCITED),
    "gluon_seresnext101_64x4d": _residual("resnext", D101, 88.23, **G64, **EXCITED),
    "seresnet152d": _residual("resnet", D152, 66.84, **DEEP, **EXCITED),
    "seresnet200d": _residual("resnet", D200, 71.86, **DEEP, **EXCITED),
    "seresnext26d_32x4d": _residual("resnext", D18, 16.81, **G4, **DEEP, **EXCITED),
    "seresnext101d_32x8d": _residual("resnext", D101, 93.59, **G8, **DEEP, **EXCITED),
    **{
        f"mobilenetv2_{width:03d}": Network(
            "mobilenet", "mobile.mobilenet_v2", {"width": width / 100}, millions, tolerance=0.003
        )
        for width, millions in ((35, 1.68), (50, 1.97), (75, 2.64), (140, 6.11))
    },
    "mnasnet_140": Network("mobilenet", "mobile.mnasnet", {"width": 1.4}, 7.12),
    "tf_mobilenetv3_large_075": _application("mobilenet", "MobileNetV3Large", 3.99, alpha=0.75),
    "tf_mobilenetv3_large_100": _application("mobilenet", "MobileNetV3Large", 5.48),
    "tf_mobilenetv3_large_minimal_100": _application("mobilenet", "MobileNetV3Large", 3.92, minimalistic=True),
    "tf_mobilenetv3_small_075": _application("mobilenet", "MobileNetV3Small", 2.04, alpha=0.75),
    "tf_mobilenetv3_small_100": _application("mobilenet", "MobileNetV3Small", 2.54),
    "tf_mobilenetv3_small_minimal_100": _application("mobilenet", "MobileNetV3Small", 2.04, minimalistic=True),
    **{
        f"efficientnet_b{i}": _application("efficientnet", f"EfficientNetB{i}", millions)
        for i, millions in ((1, 7.79), (2, 9.11), (3, 12.23), (5, 30.39), (6, 43.04), (7, 66.35))
    },
    **{
        f"tf_efficientnetv2_{name}": _application("efficientnet", f"EfficientNetV2{name.upper()}", millions)
        for name, millions in (("b0", 7.14), ("b1", 8.14), ("b2", 10.10), ("b3", 14.36), ("s", 21.46), ("m", 54.14))
    },
    "xception": _application("xception", "Xception", 22.86),
    "vit_tiny_patch16": _vit(12, 192, 3, 16, 5.72),
    "vit_small_patch16": _vit(12, 384, 6, 16, 22.05),
    "vit_small_patch32": _vit(12, 384, 6, 32, 22.88),
    "vit_base_patch16": _vit(12, 768, 12, 16, 86.57),
    "vit_base_patch32": _vit(12, 768, 12, 32, 88.22),
    "vit_large_patch16": _vit(24, 1024, 16, 16, 304.33),
    "vit_large_patch32": _vit(24, 1024, 16, 32, 306.54),
    "vit_huge_patch14": _vit(32, 1280, 16, 14, 632.05),
}
# other names of timm's for the same layers; a name that only stands for other weights is no further network
TIMM_NAMES: dict[str, str] = {
    **{name: name for name in TIMM if not name.startswith("vit_")},
    **{
        name: name
        for name in NETWORKS
        if name.startswith(("resnet", "resnext", "wide_", "vgg", "densenet", "inception_v"))
        and not name.endswith(("_v1", "_v2", "_v15"))
        and name != "inception_v1"
    },
    **{f"efficientnet_b{i}": f"efficientnet_b{i}" for i in range(8)},
    **{f"tf_efficientnet_b{i}": f"efficientnet_b{i}" for i in range(8)},
    "mobilenetv2_100": "mobilenet_v2",
    "mnasnet_050": "mnasnet0_5",
    "mnasnet_075": "mnasnet0_75",
    "mnasnet_100": "mnasnet1_0",
    **{f"{name}_{size}": name for name in TIMM if name.startswith("vit_") for size in (224, 384)},
}
# of runs with measured power, on which ratios of GPUs are judged; parameters as of 1,000 classes less those of 900
POWER_NETWORKS: dict[str, Network] = {
    "shufflenet_v2_cifar": Network(
        "shufflenet",
        "mobile.shufflenet_v2",
        {"widths": (116, 232, 464), "last": 1024, "is_for_small": True, "classes": 100},
        1.356,
    )
}
ALL = {**TIMM, **NETWORKS, **POWER_NETWORKS}
