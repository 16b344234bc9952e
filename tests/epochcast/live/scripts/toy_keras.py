"""A Keras of thirty lines that trains nothing, for tests of what happens around a fit.

It has what `epochcast.live` asks of Keras: a class `Model` in its place, whose `fit` runs the hooks of callbacks at a
known pace: a step takes STEP_SEC, twice as long with `jit_compile`, half as long under another policy than float32. It
starts in no time, where a framework takes seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

STEP_SEC = 0.002
BATCH = 32
FILES = {
    "tensorflow/__init__.py": "class config:\n    list_physical_devices = staticmethod(lambda kind: [])\n",
    "keras/__init__.py": """
from keras import backend, callbacks, config, distribution, tree, utils
from keras.src.models.model import Model
""",
    "keras/backend.py": "import tensorflow\n\ndef backend():\n    return 'tensorflow'\n",
    "keras/config.py": """
policy = "float32"

def floatx():
    return "float32"

def set_dtype_policy(name):
    global policy
    policy = name

def dtype_policy():
    return type("Policy", (), {"name": policy})()
""",
    "keras/distribution.py": "def distribution():\n    return None\n",
    "keras/utils.py": "class PyDataset: pass\n",
    "keras/tree.py": "def flatten(x):\n    return list(x) if isinstance(x, list) else [x]\n",
    "keras/callbacks.py": """
class Callback:
    def on_train_begin(self, logs=None): pass
    on_train_end = on_train_begin
    def on_epoch_begin(self, epoch, logs=None): pass
    on_epoch_end = on_train_batch_begin = on_epoch_begin

class EarlyStopping(Callback): pass
class ModelCheckpoint(Callback): pass
class History(Callback): pass
class CallbackList(Callback): pass
""",
    "tf_keras/__init__.py": "from tf_keras.src.engine.training import Model\n",
    "tf_keras/src/__init__.py": "",
    "tf_keras/src/engine/__init__.py": "",
    "tf_keras/src/engine/training.py": "class Model:\n    def fit(self, *given, **named): pass\n",
    "keras/src/__init__.py": "",
    "keras/src/models/__init__.py": "",
    "keras/src/models/model.py": f"""
import pathlib, time
from keras import config

class Model:
    built = compiled = True
    run_eagerly, train_function, layers = False, None, ()
    trainable_variables = variables = ()
    dtype_policy = type("Policy", (), {{"name": "float32"}})()
    name, optimizer, steps_per_execution, jit_compile = "toy", None, 1, False

    def count_params(self):
        return 1234

    def _flatten_layers(self, include_self=True):
        return self.layers

    def train_on_batch(self, x, y=None):
        time.sleep({STEP_SEC})

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, steps_per_epoch=None):
        steps = steps_per_epoch or (-(-len(x) // (batch_size or {BATCH})) if hasattr(x, "__len__") else None)
        self.stop_training = False
        called = callbacks or []
        for each in called:
            each.model, each.params = self, {{"steps": steps, "epochs": epochs}}
            each.on_train_begin()
        for epoch in range(epochs):
            [each.on_epoch_begin(epoch) for each in called]
            batches, step = iter(x if steps is None or hasattr(x, "__next__") else range(steps)), 0
            while not self.stop_training:
                if steps is not None and step == steps:
                    break
                [each.on_train_batch_begin(step) for each in called]
                if next(batches, self) is self:
                    break
                time.sleep({STEP_SEC} * (1 + self.jit_compile) / (1 + (config.policy != "float32")))
                step += 1
            [each.on_epoch_end(epoch) for each in called]
            if self.stop_training:
                break
        [each.on_train_end() for each in called]
        if verbose == 'auto':  # as a script leaves it, where estimates say 0
            with pathlib.Path("trained.txt").open("a") as file:
                file.write(f"{{epochs}} epochs\\n")
""",
}


def toy_keras(folder: Path) -> str:
    """Return a PYTHONPATH with the toy in it, instead of Keras and TensorFlow."""
    for name, code in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
