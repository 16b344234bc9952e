"""Backbones of keras-hub: what Keras's layers in them do is counted, every other layer is named with a reason.

keras-hub is no part of the lock: `make test-hub` runs these in an environment of its own.
"""

from __future__ import annotations

import importlib

import pytest

from epochcast.keras_files.read_file import read_network
from epochcast.keras_layers.read_layers import read_layers
from epochcast.machine.framework import keras_on_cpu

pytestmark = pytest.mark.slow
OWN_WEIGHTS = "computes with weights of its own"
WORDS = {"vocabulary_size": 100, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}


@pytest.fixture(scope="module")
def hub():
    keras_on_cpu()  # which chooses the backend
    return pytest.importorskip("keras_hub")


def bert(hub):
    return hub.models.BertBackbone(**WORDS, max_sequence_length=12)


def gpt2(hub):
    return hub.models.GPT2Backbone(**WORDS, max_sequence_length=12)


def vit(hub):
    shape, sizes = (28, 28, 3), {"num_layers": 3, "num_heads": 6, "hidden_dim": 48, "mlp_dim": 192}
    return hub.models.ViTBackbone(image_shape=shape, patch_size=4, **sizes)


def sam(hub):
    side = 64
    encoder = hub.models.ViTDetBackbone(
        hidden_size=16,
        num_layers=4,
        intermediate_dim=64,
        num_heads=4,
        global_attention_layer_indices=[2],
        patch_size=16,
        num_output_channels=8,
        window_size=2,
        image_shape=(side, side, 3),
    )
    prompts = hub.layers.SAMPromptEncoder(
        hidden_size=8, image_embedding_size=(4, 4), input_image_size=(side, side), mask_in_channels=16
    )
    masks = hub.layers.SAMMaskDecoder(
        num_layers=2,
        hidden_size=8,
        intermediate_dim=32,
        num_heads=2,
        embedding_dim=8,
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=8,
    )
    return hub.models.SAMBackbone(image_encoder=encoder, prompt_encoder=prompts, mask_decoder=masks)


def stable_diffusion_3(hub):
    encoders = {
        "clip_l": hub.models.CLIPTextEncoder(20, 32, 32, 2, 2, 64, "quick_gelu", -2, name="clip_l"),
        "clip_g": hub.models.CLIPTextEncoder(20, 64, 64, 2, 2, 128, "gelu", -2, name="clip_g"),
    }
    vae = importlib.import_module("keras_hub.src.models.vae.vae_backbone").VAEBackbone  # under no public name
    return hub.models.StableDiffusion3Backbone(
        mmdit_patch_size=2,
        mmdit_hidden_dim=32,
        mmdit_num_layers=2,
        mmdit_num_heads=2,
        mmdit_position_size=192,
        mmdit_qk_norm=None,
        mmdit_dual_attention_indices=None,
        vae=vae([32] * 4, [1] * 4, [32] * 4, [1] * 4, sampler_method="mode", name="vae"),
        height=64,
        width=64,
        **encoders,
    )


BACKBONES = {  # how each is made; the kinds of layers that are not known, with why
    "BERT": (bert, {"(PositionEmbedding)": OWN_WEIGHTS, "gelu_approximate)": "has no known FLOP"}),
    "GPT-2": (
        gpt2,
        {
            "(PositionEmbedding)": OWN_WEIGHTS,
            "(CachedMultiHeadAttention)": "changes what Keras's MultiHeadAttention computes",
            "gelu_approximate)": "has no known FLOP",
        },
    ),
    "ViT": (vit, {"(ViTPatchingAndEmbedding)": OWN_WEIGHTS}),
    "SAM": (
        sam,
        {
            "(AddPositionalEmbedding)": OWN_WEIGHTS,
            "(AddRelativePositionalEmbedding)": OWN_WEIGHTS,
            "(SAMPromptEncoder)": OWN_WEIGHTS,
        },
    ),
}


def shape_of(model):
    return {tensor.name: tuple(size or 4 for size in tensor.shape[1:]) for tensor in model.inputs}


@pytest.mark.parametrize("name", BACKBONES)
def test_what_is_not_of_keras_in_a_backbone_is_named_with_its_reason(hub, name):
    make, unknown = BACKBONES[name]
    model = make(hub)
    network = read_layers(model, shape_of(model))
    titles = [title.rpartition(" ")[2].rpartition(".")[2] for title in network.unknown]
    found = dict(zip(titles, network.reasons, strict=True))
    assert found == unknown
    of_records = sum(record.params for record in network.records if not record.is_repeat)
    assert 0.5 * model.count_params() < of_records < model.count_params()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_in_a_file_is_refused_by_its_first_layer_or_read_without_it(hub, tmp_path, name):
    path, code = tmp_path / "x.keras", tmp_path / "code.py"
    model = BACKBONES[name][0](hub)
    model.save(path)
    code.write_text("import keras_hub")
    given = path, 8, 1000, "float32", shape_of(model)
    with pytest.raises(ValueError, match=r"can't be counted: (the first|it) \w.*--allow_unknown counts the rest"):
        read_network(*given, code=[code])
    found = read_network(*given, allow_unknown=True, code=[code])
    assert len(found.not_counted) == len(read_layers(model, shape_of(model)).unknown)  # named anew when it is rebuilt


def test_a_part_that_asks_for_numbers_of_the_data_is_named(hub, tmp_path):
    path, code = tmp_path / "x.keras", tmp_path / "code.py"
    model = stable_diffusion_3(hub)
    model.save(path)
    code.write_text("import keras_hub")
    given = path, 8, 1000, "float32", shape_of(model)
    with pytest.raises(ValueError, match=r"Write `from keras_hub\.\S+ import VAEBackbone` in it") as caught:
        read_network(*given, code=[code])
    code.write_text("import keras_hub\n" + str(caught.value).split("`")[1])  # it is under no public name
    with pytest.raises(ValueError, match=r"what its layer \S*scheduler \(\w+\.*\) does depends on data"):
        read_network(*given, code=[code])
