"""Records of layers whose numbers are known by hand."""

from epochcast.roofline.roofline import LayerRecord

CONV = LayerRecord(  # 3x3, 16 to 32 channels, 8x8 images
    "conv",
    "conv",
    (8, 8, 32),
    params=4640,
    macs=64 * 32 * 144,
    inputs=64 * 16,
    outputs=64 * 32,
    forward_flop=2 * 64 * 32 * 144 + 64 * 32,
    weight_reads=4640,
    taps=9,
)
