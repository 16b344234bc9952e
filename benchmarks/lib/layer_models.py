"""The networks on which FLOP by layer records are compared with what frameworks count. Keras is imported when built."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from epochcast.schema import RunConfig

Model = Any  # a keras.Model


def cnn(depth: int, base_filters: int) -> Model:
    from epochcast.workload.cnn import build_model

    return build_model(RunConfig(depth, base_filters))


def cnn_without_padding(depth: int, base_filters: int) -> Model:
    """The same, but for convolutions that look at pixels alone."""
    import keras

    def unpadded(layer: Model) -> Model:  # a layer
        config = layer.get_config()
        return type(layer).from_config(
            config | {"padding": "valid"} if isinstance(layer, keras.layers.Conv2D) else config
        )

    return keras.models.clone_model(cnn(depth, base_filters), clone_function=unpadded)


def application(name: str, size: int) -> Model:
    import keras

    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))


def transformer_block(positions: int = 128, width: int = 256, heads: int = 4) -> Model:
    """Attention and a feed-forward pair, each with a residual and a normalisation."""
    import keras
    from keras import layers

    inputs = keras.Input((positions, width))
    x = layers.MultiHeadAttention(heads, width // heads)(inputs, inputs)
    x = first = layers.LayerNormalization()(layers.Add()([inputs, x]))
    x = layers.Dense(4 * width, activation="relu")(x)
    x = layers.Dense(width)(x)
    return keras.Model(inputs, layers.LayerNormalization()(layers.Add()([first, x])))


def recurrent(name: str, steps: int = 64, features: int = 64, units: int = 128) -> Model:
    """Unrolled: both frameworks count the body of a loop once, however often it runs."""
    import keras
    from keras import layers

    layer = getattr(layers, name)(units, unroll=True)
    return keras.Sequential([keras.Input((steps, features)), layer, layers.Dense(10, activation="softmax")])


def bidirectional_lstm(steps: int = 64, features: int = 64, units: int = 64) -> Model:
    import keras
    from keras import layers

    layer = layers.Bidirectional(layers.LSTM(units, return_sequences=True, unroll=True))
    head = [layers.TimeDistributed(layers.Dense(10, activation="softmax"))]
    return keras.Sequential([keras.Input((steps, features)), layer, *head])


def conv_1d() -> Model:
    import keras
    from keras import layers

    stack = [
        layers.Conv1D(64, 7, padding="same", activation="relu"),
        layers.MaxPooling1D(4),
        layers.Conv1D(128, 3, padding="same", dilation_rate=2, activation="relu"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(5, activation="softmax"),
    ]
    return keras.Sequential([keras.Input((1024, 12)), *stack])


def conv_3d() -> Model:
    import keras
    from keras import layers

    stack = [
        layers.Conv3D(16, 3, padding="same", activation="relu"),
        layers.MaxPooling3D(2),
        layers.Conv3D(32, 3, activation="relu"),
        layers.GlobalMaxPooling3D(),
        layers.Dense(2, activation="softmax"),
    ]
    return keras.Sequential([keras.Input((16, 32, 32, 1)), *stack])


def text_cnn() -> Model:
    """Kim's (2014): an embedding, convolutions of three widths side by side, their maxima joined."""
    import keras
    from keras import layers

    inputs = keras.Input((200,), dtype="int32")
    x = layers.Embedding(5000, 100)(inputs)
    branches = [layers.GlobalMaxPooling1D()(layers.Conv1D(100, width, activation="relu")(x)) for width in (3, 4, 5)]
    x = layers.Dropout(0.5)(layers.Concatenate()(branches))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def separable() -> Model:
    """Two blocks in the manner of Xception."""
    import keras
    from keras import layers

    inputs = keras.Input((64, 64, 3))
    x = layers.Conv2D(32, 3, strides=2, use_bias=False, padding="same")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for filters in (64, 128):
        residual = layers.Conv2D(filters, 1, strides=2, padding="same")(x)
        x = layers.SeparableConv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(layers.BatchNormalization()(x))
        x = layers.Add()([x, residual])
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def autoencoder() -> Model:
    """Strided convolutions down, transposed ones up."""
    import keras
    from keras import layers

    stack = [
        layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="sigmoid"),
    ]
    return keras.Sequential([keras.Input((32, 32, 3)), *stack])


OTHER_APPLICATIONS = {  # one of each further family, with the pixels of its weights
    "ConvNeXtTiny": 224,
    "DenseNet121": 224,
    "EfficientNetV2B0": 224,
    "InceptionResNetV2": 299,
    "InceptionV3": 299,
    "MobileNetV3Small": 224,
    "NASNetMobile": 224,
    "ResNet50V2": 224,
    "VGG16": 224,
    "Xception": 299,
}


def operations(positions: int = 64, width: int = 128, heads: int = 4) -> Model:
    """Attention, a gated pair and normalisations by operations in place of layers."""
    import keras
    from keras import layers, ops

    def normalised(x: Any) -> Any:  # a tensor of Keras's
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        return centred * ops.rsqrt(ops.var(x, axis=-1, keepdims=True) + 1e-6)

    inputs = keras.Input((positions, width))
    split = ops.split(
        ops.reshape(layers.Dense(3 * width)(inputs), (-1, positions, 3, heads, width // heads)), 3, axis=2
    )
    query, key, value = (ops.transpose(ops.squeeze(one, axis=2), (0, 2, 1, 3)) for one in split)
    scores = ops.softmax(ops.einsum("bhqd,bhkd->bhqk", query, key) / (width // heads) ** 0.5)
    mixed = ops.reshape(ops.transpose(ops.matmul(scores, value), (0, 2, 1, 3)), (-1, positions, width))
    x = first = normalised(inputs + mixed)
    wide, gate = ops.split(layers.Dense(8 * width)(x), 2, axis=-1)
    x = layers.Dense(width)(wide * ops.gelu(gate))
    pooled = ops.concatenate([ops.mean(first + x, axis=1), ops.max(x, axis=1), ops.sum(x, axis=1)], axis=-1)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(pooled))


MODELS: dict[str, Callable[[], Model]] = {
    "CNN 1,4": partial(cnn, 1, 4),
    "CNN 2,16": partial(cnn, 2, 16),
    "CNN 3,32": partial(cnn, 3, 32),
    "CNN 6,2": partial(cnn, 6, 2),
    "CNN 3,32 without padding": partial(cnn_without_padding, 3, 32),
    "ResNet-50": partial(application, "ResNet50", 224),
    "MobileNet": partial(application, "MobileNet", 224),
    "MobileNetV2": partial(application, "MobileNetV2", 224),
    "EfficientNetB0": partial(application, "EfficientNetB0", 224),
    **{name: partial(application, name, size) for name, size in OTHER_APPLICATIONS.items()},
    "Transformer block": transformer_block,
    "operations": operations,
    "LSTM": partial(recurrent, "LSTM"),
    "GRU": partial(recurrent, "GRU"),
    "bidirectional LSTM": bidirectional_lstm,
    "1D convolutions": conv_1d,
    "3D convolutions": conv_3d,
    "text CNN": text_cnn,
    "separable convolutions": separable,
    "transposed convolutions": autoencoder,
}
