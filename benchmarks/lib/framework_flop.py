"""FLOP of a model's forward pass of one sample, as TensorFlow's profiler or JAX's compiler counts them."""

from __future__ import annotations

from typing import Any

Model = Any  # a keras.Model


def profiler_flop(model: Model) -> int:
    """`total_float_ops` of the frozen forward graph; Keras must run on TensorFlow."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    (inputs,) = model.inputs
    forward = tf.function(lambda sample: model(sample, training=False))
    specs = tf.TensorSpec((1, *inputs.shape[1:]), inputs.dtype)
    frozen = convert_variables_to_constants_v2(forward.get_concrete_function(specs))
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name="")
        return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)


def jax_flop(model: Model) -> int:
    """`flops` of the compiled forward pass's cost analysis; Keras must run on JAX."""
    import jax

    def forward(trainable: Any, others: Any, sample: Any) -> Any:  # arrays of JAX's
        return model.stateless_call(trainable, others, sample, training=False)

    (inputs,) = model.inputs
    variables = [[v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]
    sample = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
    return int(jax.jit(forward).lower(*variables, sample).compile().cost_analysis()["flops"])
