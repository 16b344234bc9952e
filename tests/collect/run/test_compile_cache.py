"""Programs are kept from one process to the next, and no accident to them costs more than compiling them again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from epochcast.collect.run.compile_cache import enable, programs_dir
from epochcast.paths import CODE_ROOT
from tests.support.machines.boxes import Board, plug_in

NAME = "xla_compile_cache__1__2__XLA_CPU_JIT.pb"  # as TensorFlow names a program
PROGRAM = b"a compiled program" * 100
CHILD = """
import sys
import json
from importlib.metadata import version
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from epochcast.collect.run.compile_cache import enable
import keras
import numpy as np
backend = keras.backend.backend()
cache = enable(backend, sys.argv[2], Path(sys.argv[3]))
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
model.compile("sgd", "mse", jit_compile=sys.argv[4] == "on")
for variable in model.weights:
    variable.assign(np.full(variable.shape, 0.1))
x = np.linspace(0, 1, 64, dtype="float32").reshape(16, 4)
loss = model.fit(x, x.sum(axis=1), batch_size=4, epochs=1, shuffle=False, verbose=0).history["loss"][0]
state = cache.state(sys.argv[4])
cache.keep()
print(json.dumps({"state": state, "loss": loss, "steps": int(model.optimizer.iterations)}))
"""


@pytest.fixture(autouse=True)
def own_flags_and_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # here they go with the test, not with the process


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "compiled" / "tensorflow-2.21.0"


def looks_in() -> str:
    """The folder that TensorFlow would be told of now; empty: none."""
    found = re.findall(r"--tf_xla_persistent_cache_directory=(?:'(.*?)'|(\S*))", os.environ["TF_XLA_FLAGS"])
    return "".join(found[-1]) if found else ""


def started(folder):
    """What a TensorFlow process has after its start: the cache, and the folder that TensorFlow was told of."""
    cache = enable("tensorflow", "on", folder)
    return cache, Path(looks_in())


def compile_one(folder, program=PROGRAM, name=NAME):
    """What a run does that compiles a program; returns the file that keeps it."""
    cache, own = started(folder)
    (own / name).write_bytes(program)
    cache.keep()
    return next(folder.glob(f"{name}.*"))


def child(folder, backend="jax", wanted="on", jit_compile="on", **environment):
    """A fresh process that trains a tiny model: its state, loss, steps and what it printed to stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", CHILD, str(CODE_ROOT), wanted, str(folder), jit_compile],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
        | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}


def damage_half(content):
    return content[: len(content) // 2]


def damage_bit(content):
    return bytes([content[0] ^ 1]) + content[1:]


# --- what a run is told -----------------------------------------------------------------------------------------------


def test_the_first_run_is_cold_and_the_second_warm(folder):
    cache, own = started(folder)
    assert cache.state("on") is None  # nothing compiled yet
    (own / NAME).write_bytes(PROGRAM)
    assert cache.state("on") == "cold"
    cache.keep()
    cache, own = started(folder)
    assert (own / NAME).read_bytes() == PROGRAM
    assert cache.state("on") == "warm"
    (own / "another.pb").write_bytes(PROGRAM)
    assert cache.state("on") == "cold"  # not everything was found


def test_without_xla_tensorflow_has_nothing_to_keep(folder):
    compile_one(folder)
    cache, _ = started(folder)
    assert cache.state("off") is None


def test_off_is_off_even_where_the_environment_names_a_cache(folder, monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_clustering_debug --tf_xla_persistent_cache_directory=/elsewhere")
    assert enable("tensorflow", "off", folder).state("on") == "off"
    assert looks_in() == ""
    assert "--tf_xla_clustering_debug" in os.environ["TF_XLA_FLAGS"]
    assert not folder.exists()


def test_a_users_other_flags_stay(folder, monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_clustering_debug --tf_xla_persistent_cache_directory=/elsewhere")
    _, own = started(folder)
    assert own.is_dir()
    assert own != Path("/elsewhere")
    assert os.environ["TF_XLA_FLAGS"].startswith("--tf_xla_clustering_debug ")


@pytest.mark.parametrize("wanted", ["on", "off"])
def test_a_backend_without_a_cache_leaves_the_column_empty(folder, wanted):
    cache = enable("torch", wanted, folder)
    assert cache.state("on") is None
    cache.keep()
    assert not folder.exists()


def test_programs_are_kept_apart_by_version_box_and_device(monkeypatch, tmp_path):
    monkeypatch.setenv("EPOCHCAST_CACHE_DIR", str(tmp_path))
    here = programs_dir("jax", "0.10.2", "cpu")
    assert here == programs_dir("jax", "0.10.2", "cpu")
    assert here.parent == tmp_path / "compiled"
    assert here.name.startswith("jax-0.10.2-")
    others = {programs_dir("jax", "0.10.3", "cpu"), programs_dir("jax", "0.10.2", "auto")}
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA A100-SXM4-40GB"), Board("NVIDIA L4")])
    others |= {programs_dir("jax", "0.10.2", device) for device in ("auto", "gpu:1")}
    assert len({here, *others}) == 5
    assert programs_dir("jax", "0.10.2", "cpu") == here


# --- accidents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [damage_half, damage_bit, lambda content: b""])
def test_a_broken_program_is_never_seen_and_is_compiled_again(folder, damage):
    compile_one(folder, name="other.pb")
    file = compile_one(folder)
    file.write_bytes(damage(file.read_bytes()))
    cache, own = started(folder)
    assert [entry.name for entry in own.iterdir()] == ["other.pb"]
    (own / NAME).write_bytes(PROGRAM)
    assert cache.state("on") == "cold"
    cache.keep()
    cache, own = started(folder)
    assert (own / NAME).read_bytes() == PROGRAM
    assert cache.state("on") == "warm"


def test_a_program_that_is_being_written_is_not_seen_by_another_process(folder):
    first, first_own = started(folder)
    (first_own / NAME).write_bytes(PROGRAM[:10])
    second, second_own = started(folder)
    assert list(second_own.iterdir()) == []
    (first_own / NAME).write_bytes(PROGRAM)
    (second_own / NAME).write_bytes(PROGRAM[::-1])  # compiled alike, but not to the byte
    first.keep()
    second.keep()
    _, own = started(folder)
    assert (own / NAME).read_bytes() in (PROGRAM, PROGRAM[::-1])


def test_two_processes_that_keep_at_the_same_moment_leave_one_program_to_the_next(folder):
    file = compile_one(folder)
    twin = compile_one(folder.with_name("elsewhere"), PROGRAM[::-1])
    shutil.copy(twin, folder)  # as if both had found nothing and kept theirs
    assert twin.name != file.name
    cache, own = started(folder)
    assert [entry.name for entry in own.iterdir()] == [NAME]
    assert cache.state("on") == "warm"


def test_where_nothing_can_be_written_the_run_goes_on_without_after_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    cache = enable("tensorflow", "on", tmp_path / "file" / "compiled")
    assert cache.state("on") == "off"
    assert looks_in() == ""
    cache.keep()
    (message,) = caplog.messages
    assert str(tmp_path / "file") in message
    assert "EPOCHCAST_CACHE_DIR" in message


def test_a_disk_too_full_for_a_program_is_not_written_to(folder, caplog, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    assert enable("tensorflow", "on", folder).state("on") == "off"
    assert "GB free" in caplog.text


def test_programs_that_cannot_be_handed_in_are_a_warning(folder, caplog):
    cache, own = started(folder)
    (own / NAME).write_bytes(PROGRAM)
    shutil.rmtree(folder)
    folder.write_text("not a folder any more")
    cache.keep()
    assert len(caplog.messages) == 1
    assert str(folder) in caplog.text


def test_the_folder_of_a_killed_process_goes_with_the_next_start_and_that_of_a_living_one_stays(folder, tmp_path):
    compile_one(folder)
    code = (
        "import sys, time; from pathlib import Path; from epochcast.collect.run.compile_cache import enable\n"
        "enable('tensorflow', 'on', Path(sys.argv[1])); print('ready', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(CODE_ROOT)}
    before = set(tmp_path.glob("epochcast-compiled-*"))
    with subprocess.Popen([sys.executable, "-c", code, folder], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        (theirs,) = set(tmp_path.glob("epochcast-compiled-*")) - before
        started(folder)
        assert (theirs / NAME).is_symlink()
        process.kill()
    _, own = started(folder)
    assert not theirs.exists()
    assert all(path.exists() for path in before)  # of this process, which lives
    assert (own / NAME).read_bytes() == PROGRAM  # what the links led to stays


def test_a_folder_of_another_user_or_a_link_with_our_name_is_left_alone(folder, tmp_path, monkeypatch):
    foreign, elsewhere = tmp_path / "epochcast-compiled-foreign", tmp_path / "elsewhere"
    (elsewhere / "file").mkdir(parents=True)
    (tmp_path / "epochcast-compiled-link").symlink_to(elsewhere)
    started(folder)
    assert (elsewhere / "file").exists()
    foreign.mkdir()
    somebody = foreign.stat().st_uid + 1
    monkeypatch.setattr(os, "getuid", lambda: somebody)
    started(folder)
    assert foreign.exists()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
@pytest.mark.parametrize("depth", [0, 1])
def test_programs_in_a_folder_that_others_can_write_are_not_run(folder, caplog, mode, depth):
    compile_one(folder)
    open_to_all = (folder, *folder.parents)[depth]
    open_to_all.chmod(mode)
    cache = enable("tensorflow", "on", folder)
    if depth and mode == 0o1777:  # as /tmp: others can't replace what is ours
        assert cache.state("on") == "warm"
        return
    assert (cache.state("on"), looks_in()) == ("off", "")
    cache.keep()
    (message,) = caplog.messages
    assert f"chmod go-w {open_to_all}" in message


def test_programs_are_not_handed_in_where_others_can_write_by_now(folder, caplog):
    cache, own = started(folder)
    (own / NAME).write_bytes(PROGRAM)
    folder.chmod(0o777)
    cache.keep()
    assert "can be written by others" in caplog.text
    assert list(folder.iterdir()) == []


def test_a_planted_link_or_a_program_that_others_can_write_is_compiled_again(folder, tmp_path):
    file = compile_one(folder)
    other = compile_one(folder, name="other.pb")
    planted = tmp_path / "planted"
    file.rename(planted)
    file.symlink_to(planted)
    other.chmod(0o666)
    (folder / f"third.pb.{'0' * 16}").mkdir()
    _, own = started(folder)
    assert list(own.iterdir()) == []
    assert planted.read_bytes() == PROGRAM
    assert not file.is_symlink() and not other.exists()


def test_a_new_folder_is_for_its_user_alone(folder, monkeypatch):
    before = os.umask(0)
    try:
        started(folder)
    finally:
        os.umask(before)
    for made in (folder, folder.parent, folder.parent.parent):
        assert made.stat().st_mode & 0o777 == 0o700


# --- real processes ---------------------------------------------------------------------------------------------------


JAX_ALONE = """
import sys
from pathlib import Path
from epochcast.collect.run.compile_cache import enable
cache = enable("jax", "on", Path(sys.argv[1]))
import jax
answer = float(jax.jit(lambda x: 2 * x + 1)(3.0))
state = cache.state("on")
cache.keep()
print(state, answer)
"""


def test_jax_compiles_in_the_first_process_and_not_in_the_second(tmp_path):
    """Without Keras, which takes longer to start than JAX; the tests below train with it."""
    command = [sys.executable, "-c", JAX_ALONE, str(tmp_path / "compiled")]
    environment = {**os.environ, "PYTHONPATH": str(CODE_ROOT), "JAX_PLATFORMS": "cpu"}
    found = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(done.stdout.split())
    assert found == [["cold", "7.0"], ["warm", "7.0"]]


@pytest.mark.slow
def test_a_training_on_jax_is_compiled_in_the_first_process_and_not_in_the_second(tmp_path):
    cold, warm = child(tmp_path / "compiled"), child(tmp_path / "compiled")
    assert (cold["state"], warm["state"]) == ("cold", "warm")
    assert (warm["loss"], warm["steps"]) == (cold["loss"], 4)


@pytest.mark.parametrize("wanted", ["off", None])  # None: not asked, so that the environment holds
def test_off_keeps_jax_from_the_cache_that_the_environment_names(wanted, tmp_path):
    code = (
        "from pathlib import Path; from epochcast.collect.run.compile_cache import enable\n"
        f"cache = {wanted!r} and enable('jax', {wanted!r}, Path('unused'))\n"
        "import jax; jax.jit(lambda x: x + 1)(1.0).block_until_ready()\n"
        "print(cache and cache.state('on'))"
    )
    named = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "named"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, "PYTHONPATH": str(CODE_ROOT), "JAX_PLATFORMS": "cpu", **named}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"{wanted}\n", done.stderr
    assert (tmp_path / "named").exists() == (wanted is None)


@pytest.mark.slow
def test_jax_compiles_a_broken_program_again(tmp_path):
    first = child(tmp_path)
    files = list(tmp_path.glob("jit_train_step*"))
    for file in files:
        file.write_bytes(damage_half(file.read_bytes()))
    mended, warm = child(tmp_path), child(tmp_path)
    assert files
    assert [mended["state"], warm["state"]] == ["cold", "warm"]
    assert first["loss"] == mended["loss"] == warm["loss"]
    assert "Error reading" not in mended["stderr"]


@pytest.mark.slow
def test_tensorflow_compiles_in_the_first_process_and_never_trains_on_half_a_program(tmp_path):
    folder, elsewhere = tmp_path / "compiled", tmp_path / "elsewhere"
    named = {"TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={elsewhere}"}
    states = [child(folder, "tensorflow", **named) for _ in range(2)]
    (file,) = folder.iterdir()
    file.write_bytes(damage_half(file.read_bytes()))
    states.append(child(folder, "tensorflow"))
    states.append(child(folder, "tensorflow", jit_compile="off"))
    states.append(child(folder, "tensorflow", wanted="off", **named))
    assert [run["state"] for run in states] == ["cold", "warm", "cold", None, "off"]
    assert {run["steps"] for run in states} == {4}
    # threads may add in another order
    assert [run["loss"] for run in states] == pytest.approx([states[0]["loss"]] * 5, rel=1e-5)
    assert not elsewhere.exists()
