"""Work of layers that the CNN does not have: wherever their channels stand, frozen or not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epochcast.roofline.epoch_work import wide_flop, work_of_layers
from epochcast.roofline.roofline import LayerRecord
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records, work_of

WIDE = LayerRecord("wide", "conv", (32, 32, 256), 147_712, 150_994_944, inputs=65_536, outputs=262_144,
                   forward_flop=302_252_032, weight_reads=147_712, filters=256)  # fmt: skip


def test_a_convolution_is_wide_by_its_filters_wherever_its_channels_stand():
    assert wide_flop(replace(WIDE, output_shape=(256, 32, 32))) == wide_flop(WIDE) == 6 * WIDE.macs
    assert wide_flop(replace(WIDE, filters=8)) == 0  # 256 pixels wide
    assert wide_flop(replace(WIDE, kind="dense")) == 0


def test_a_frozen_convolution_has_as_much_wide_work_as_it_has_work():
    for frozen in (replace(WIDE, frozen_params=WIDE.params, has_input_gradient=has) for has in (False, True)):
        assert (
            wide_flop(frozen) == work_of_layers([frozen], 8, 1).train_flop == 2 * WIDE.macs * (1 + frozen.n_gradients)
        )


@pytest.mark.parametrize("config", [RunConfig(1, 256, 32), RunConfig(4, 64, 512), RunConfig(5, 128, 64)])
def test_wide_work_of_the_cnn_is_that_which_laws_were_fitted_with(config):
    records = layer_records(config)
    wide = [r.macs for r in records if r.kind == "conv" and r.output_shape[-1] >= 256]
    assert work_of(config, 1).wide_flop == 3 * 2 * sum(wide) > 0
