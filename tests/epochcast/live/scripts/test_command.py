"""The command around a fit, with a Keras of few lines."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from epochcast.commands import estimate

COMMAND = (sys.executable, "-m", "epochcast", "estimate", "--budget_sec", "0.1")
IN_THREAD = (
    "import keras, threading\nthreading.Thread(target=keras.Model().fit, args=([1] * 640, None, 32, 3)).start()\n"
)
FIT = "import keras\nkeras.Model().fit([1] * 640, epochs=3)\n"


@pytest.fixture
def run(runner):
    """Return exit code, output and messages of the command on a script."""
    return runner(estimate.main, "--budget_sec", "0.1")


# --- scripts that come to no estimate ---------------------------------------------------------------------------------

ENDS = {
    "a loop of its own": (
        "import keras\nmodel = keras.Model()\nfor _ in range(3):\n    model.train_on_batch([1])",
        "train.py ended (exit code 0) without its first fit: it calls train_on_batch, and a training in a loop of its",
    ),
    "os._exit": ("import os\nos._exit(0)", "train.py ended (exit code 0) without its first fit."),
    "os._exit with a code": ("import os\nos._exit(4)", "train.py failed before its first fit (exit code 4)"),
    "killed": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "train.py was killed before its first fit (signal 9, SIGKILL): the system may have run out of memory.",
    ),
    "killed while it is estimated": (
        "import os, signal, threading, keras\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        "keras.Model().fit([1] * 10**6)",
        "train.py was killed while its first fit was estimated (signal 9, SIGKILL)",
    ),
    "not Python": ("model = = 3\n", "train.py line 1: not Python (invalid syntax)."),
    "no text": (b"\x80\x00\x01", "train.py: not Python ("),
    "arguments missing": (
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', required=True)\n"
        "parser.parse_args()",
        "train.py ended (exit code 2) without its first fit; what it said stands above. Its arguments come after its "
        "name: epochcast estimate train.py ...",
    ),
    "an exception": (
        "def load():\n    raise KeyError('x')\nload()",
        "train.py failed before its first fit (exit code 1): KeyError: 'x'. Its traceback stands above.",
    ),
    "a fit in a forked process": (
        "import keras, os\nif os.fork() == 0:\n    keras.Model().fit([1] * 64)\nos.wait()",
        "train.py: its first fit can't be estimated: its fit is called in a forked process",
    ),
    "what it started outlives it": (
        "import os, time\nos.system('sleep 60 &')\nif os.fork() == 0:\n    time.sleep(60)\nos.abort()",
        "train.py failed before its first fit (signal 6, SIGABRT)",
    ),
    "Keras 2": (
        "import tf_keras\nclass Own(tf_keras.Model): pass\nOwn().fit([1])",
        "train.py trains by Keras 2 (tf_keras), whose fit can't be caught.",
    ),
    "a fit that fails": (
        "import keras\ndef batches():\n    yield 1\n    raise ValueError('bad\\nbatch')\nkeras.Model().fit(batches())",
        "train.py: its first fit can't be estimated: ValueError: bad batch",
    ),
}


@pytest.mark.parametrize("case", ENDS)
def test_whatever_ends_a_script_before_its_estimate_is_one_line(run, case):
    code, words = ENDS[case]
    begin = time.monotonic()
    exit_code, out, err = run(code, flags=("--budget_sec", "5"))
    assert (exit_code, out) == (1, "")
    assert err[-1].startswith(f"error: {words}")
    assert time.monotonic() - begin < 30  # of 60 s of what it started


def test_a_traceback_begins_in_the_script(run):
    _, _, err = run(ENDS["an exception"][0])
    trace = err.index("Traceback (most recent call last):")
    assert [line.split(", ", 1)[1] for line in err[trace:] if line.startswith("  File")] == [
        "line 3, in <module>",
        "line 2, in load",
    ]


def test_a_fit_that_is_not_reached_is_counted(run):
    assert run(FIT, flags=("--fit", "2"))[2][-1] == (
        "error: train.py ended (exit code 0) without fit number 2; it called fit 1 time. --fit chooses one of them."
    )


def test_a_loop_of_its_own_is_said_at_once(run):
    code = "import keras\nmodel = keras.Model()\nwhile True:\n    model.train_on_batch([1])"
    _, _, err = run(code, flags=("--script_sec", "1"))
    assert err[-2].startswith("note: train.py calls train_on_batch: ")
    assert "had not come to its first fit after 1 s" in err[-1]


def test_a_notebook_is_no_script(run):
    assert "jupyter nbconvert --to script" in run("{}", name="train.ipynb")[2][-1]


# --- scripts whose fit is estimated -----------------------------------------------------------------------------------

AROUND = {
    "finally": "try:\n    {fit}\nfinally:\n    {harm}",
    "bare except": "try:\n    {fit}\nexcept:\n    {harm}",
    "except BaseException": "try:\n    {fit}\nexcept BaseException:\n    {harm}",
    "atexit": "import atexit\natexit.register(lambda: {harm})\n{fit}",
    "next fit": "try:\n    {fit}\nexcept BaseException:\n    pass\n{fit}\n{harm}",
}


@pytest.mark.parametrize("shape", AROUND)
def test_nothing_of_a_script_is_done_after_its_fit(run, tmp_path, shape):
    code = "import keras\n" + AROUND[shape].format(fit="keras.Model().fit([1] * 640)", harm="open('harm', 'w').close()")
    assert run(code)[0] == 0
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "code",
    [
        IN_THREAD,
        f"{IN_THREAD}1 / 0",
        f"import os, sys\nif os.fork() == 0:\n    sys.exit(3)\nos.wait()\n{FIT}",
        f"print('trains', flush=True)\n{FIT}",
    ],
    ids=["in a thread", "in a thread of a script that failed", "after a forked process ended", "with output"],
)
def test_a_fit_is_estimated_wherever_it_is_called(run, code):
    exit_code, out, err = run(code, flags=("--budget_sec", "0.2", "--json"))
    assert exit_code == 0, err
    answer = json.loads(out)
    assert (answer["epochs"], answer["batches"]) == (3, 20)
    assert answer["epoch"]["interval"]["value"] == pytest.approx(20 * 0.002, rel=0.5)  # what the toy sleeps, and more


def test_what_is_caught_is_named_before_it_is_tried(run):
    code = "import keras, numpy\nkeras.Model().fit(numpy.zeros((640, 4), 'float32'), epochs=3, callbacks=[])"
    exit_code, _, err = run(code)
    assert exit_code == 0
    assert err[0] == "note: train.py runs until its fit; whatever it does before that is done for real."
    words, rest = err[1].split(" after ", 1)
    assert words == "note: caught the fit of Model (1,234 parameters)"
    assert rest.partition(": ")[2] == (
        "x ndarray (640, 4) float32; batch size 32, epochs 3; callbacks list of 0 items; it is tried for 0.1 s."
    )


def test_verbose_prints_each_sample(run):
    _, out, _ = run(FIT, flags=("--budget_sec", "0.5", "-v"))
    samples = [line for line in out.splitlines() if line.startswith("sample_")]
    n = next(int(line.split("from ")[1].split()[0]) for line in out.splitlines() if line.startswith("epoch: "))
    assert len(samples) >= n >= 4
    assert "budget_used: " in out and "sample_" not in run(FIT)[1]


def test_an_unknown_gpu_is_said_before_the_script_runs(run):
    exit_code, out, err = run(FIT, flags=("--gpu", "H1000"))
    assert (exit_code, out, len(err)) == (1, "", 1)
    assert "no GPU is known by exactly the name 'H1000'. The nearest names: H" in err[0]


def test_where_a_gpu_has_no_time_the_estimate_is_printed_all_the_same(run):
    """The toy's layers can't be read, and a processor's time is not scaled."""
    exit_code, out, err = run(FIT, flags=("--budget_sec", "0.1", "--gpu", "T4;H100 SXM5"))
    assert exit_code == 1
    assert out.startswith("training: ")
    why = [line for line in err if line.startswith("note: no time on ")]
    assert [line.split(": ")[1] for line in why] == ["no time on T4", "no time on H100 SXM5"]
    assert all("a processor's time can't be scaled to a GPU" in line for line in why)


GENERATOR = (
    "import keras\ndef batches():\n    for _ in range(200):\n        yield 1\nkeras.Model().fit(batches(), epochs=3)"
)


def test_a_generator_that_ends_is_one_pass_and_keras_gives_two_batches_again(run):
    exit_code, out, err = run(GENERATOR, flags=("--budget_sec", "2", "--json"))
    assert exit_code == 0, err
    answer = json.loads(out)
    assert (answer["batches"], answer["samples"]["kind"]) == (200, "blocks")
    epoch, total = answer["epoch"]["interval"]["value"], answer["total"]["value"]
    assert epoch == pytest.approx(200 * 0.002, rel=0.5)
    assert total - answer["once_sec"] == pytest.approx(epoch * (1 + 2 * 2 / 200))
    assert any("trains epochs 2 to 3 on the 2 that it keeps" in note for note in answer["notes"])


def test_data_without_a_length_are_counted_without_the_step_in_which_they_end(run):
    code = (
        "import keras\nclass Data:\n    def __iter__(self):\n        return iter([1] * 20)\nkeras.Model().fit(Data())"
    )
    exit_code, out, err = run(code, flags=("--budget_sec", "0.5", "--json"))
    assert exit_code == 0, err
    assert json.loads(out)["batches"] == 20


def test_of_a_generator_that_does_not_end_the_time_of_a_step_is_known(run):
    exit_code, out, err = run(GENERATOR, flags=("--budget_sec", "0.1"))
    assert (exit_code, out) == (1, "")
    assert err[-1].startswith("error: train.py: its first fit can't be estimated: a generator does not say how many")
    text = err[-1].partition("A step takes ")[2]
    assert float(text.split(" s")[0]) == pytest.approx(0.002, rel=0.5)
    assert "Give fit steps_per_epoch" in text


LOOK = """
import json, multiprocessing, os, pickle, sys
import sibling

class Own: pass

def double(x): return 2 * x

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        doubled = pool.map(double, [1, 2])
    print(json.dumps({
        "path": sys.path, "argv": sys.argv, "file": __file__, "name": __name__, "cwd": os.getcwd(),
        "spec": __spec__, "doc": __doc__, "sibling": sibling.VALUE, "doubled": doubled, "data": open("data.txt").read(),
        "main": sys.modules["__main__"].double is double, "pickled": type(pickle.loads(pickle.dumps(Own()))).__name__,
        "names": sorted(set(globals()) - {"__annotations__"}),
    }), file=sys.stderr)
"""


def test_a_script_sees_what_it_sees_under_python(run, tmp_path):
    (tmp_path / "data.txt").write_text("17")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "sibling.py").write_text("VALUE = 5")
    _, _, err = run(LOOK, "--lr", "0.1", name="scripts/train.py")
    plain = subprocess.run(
        [sys.executable, "scripts/train.py", "--lr", "0.1"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    seen = next(json.loads(line) for line in err if line.startswith("{"))
    assert seen == json.loads(plain.stderr)
    assert (seen["sibling"], seen["doubled"], seen["data"]) == (5, [2, 4], "17")


# --- a function of a module -------------------------------------------------------------------------------------------

FACTORY = """
import keras

def make():
    return {"model": keras.Model(), "x": [1] * 640, "epochs": 3}

def number(): return 5
def nothing(): pass
def raising(): raise ValueError("no data")
def unknown(): return make() | {"epoks": 3}
def without(): return {"model": keras.Model()}
def other(): return {"model": "a model", "x": [1]}
def fitting(): keras.Model().fit([1] * 64)
def needing(size): pass

class NotCompiled(keras.Model): compiled = False
def loose(): return {"model": NotCompiled(), "x": [1]}
"""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("number", "train.py: number returned an int; expected a dict such as "),
        ("nothing", "train.py: nothing returned NoneType; expected a dict such as "),
        ("raising", "train.py failed in raising: ValueError: no data. Its traceback stands above."),
        ("needing", "train.py failed in needing: TypeError: needing() missing 1 required positional argument: 'size'."),
        ("unknown", "train.py: unknown returned epoks, which fit does not have; it has x, y, batch_size, epochs"),
        ("without", "train.py: without returned a dict without x; expected a dict such as "),
        ("other", "train.py: other returned a str as model; expected a Keras model."),
        ("loose", "train.py: loose returned a model that is not compiled"),
        ("fitting", "train.py calls fit in fitting, which has to return what fit is given: a dict such as "),
        ("missing", "train.py: there is no function 'missing' in it; its functions: make, number, "),
    ],
)
def test_a_function_that_makes_no_training_is_one_line(run, function, words):
    exit_code, out, err = run(FACTORY, function=f":{function}")
    assert (exit_code, out) == (1, "")
    assert err[-1].startswith(f"error: {words}")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (FIT + "def make(): pass", "train.py calls fit when it is imported. Put that below `if __name__ == "),
        ("import nowhere\ndef make(): pass", "train.py failed when it is imported: ModuleNotFoundError: "),
        ("def make(:", "train.py line 1: not Python ("),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(run, code, words):
    words = words.replace("train.py line 1", "") if words.startswith("train.py line") else words
    assert words in run(code, function=":make")[2][-1]


def test_a_function_makes_a_training_under_the_name_of_its_module(run):
    code = FACTORY + "assert __name__ == 'train'\nif __name__ == '__main__':\n    make()\n"
    exit_code, out, err = run(code, function=":make", flags=("--budget_sec", "0.2", "--json"))
    assert exit_code == 0, err
    answer = json.loads(out)
    assert (answer["epochs"], answer["batches"]) == (3, 20)
    assert sum("caught the fit" in line for line in err) == 1


def test_a_function_makes_one_training(run):
    exit_code, _, err = run(FACTORY, function=":make", flags=("--fit", "2"))
    assert exit_code == 2
    assert err[0] == "error: --fit chooses a fit of a script; a function makes one training"


# --- the training afterwards ------------------------------------------------------------------------------------------

TRAINING = FIT + "import sys\nprint(sys.argv[1:], sys.stdin.read())\nsys.exit(7)\n"


def command(toy, tmp_path, *arguments, code=TRAINING, **how):
    """The whole command in a process of its own."""
    (tmp_path / "train.py").write_text(code)
    environ = {**os.environ, "PYTHONPATH": toy, "EPOCHCAST_HOME": str(tmp_path)}
    return subprocess.run([*COMMAND, *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True, **how)


@pytest.mark.parametrize("flag", ["--then_train", "--yes"])
def test_it_trains_afterwards_as_the_script_itself_would(toy, tmp_path, flag):
    done = command(toy, tmp_path, flag, "train.py", "--lr", "0.1", input="typed")
    assert done.returncode == 7, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("training: ")
    assert lines[-1] == "['--lr', '0.1'] typed"
    assert (tmp_path / "trained.txt").read_text() == "3 epochs\n"


def test_it_trains_what_a_function_makes(toy, tmp_path):
    done = command(toy, tmp_path, "--yes", "train.py:make", code=FACTORY)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "trained.txt").read_text() == "3 epochs\n"


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_without_a_terminal_nobody_is_asked_and_nothing_trained(toy, tmp_path, flags):
    done = command(toy, tmp_path, *flags, "train.py", input="y\n")
    assert done.returncode == 0, done.stderr
    assert "Train now?" not in done.stderr
    assert not (tmp_path / "trained.txt").exists()


def on_terminal(toy, tmp_path, typed, *flags):
    """Exit code and screen of the command on a terminal, where something is typed beforehand."""
    (tmp_path / "train.py").write_text(FIT)
    environ = {**os.environ, "PYTHONPATH": toy, "EPOCHCAST_HOME": str(tmp_path)}
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    process = subprocess.Popen(
        [*COMMAND, *flags, "train.py"], cwd=tmp_path, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    screen = b""
    with contextlib.suppress(OSError):  # the terminal is gone
        while part := os.read(ours, 4096):
            screen += part
    os.close(ours)
    return process.wait(30), screen.decode()


@pytest.mark.parametrize(("typed", "trains"), [(b"y\n", True), (b"\n", False), (b"\x04", False)])
def test_on_a_terminal_it_asks_and_no_answer_is_no(toy, tmp_path, typed, trains):
    code, screen = on_terminal(toy, tmp_path, typed)
    assert code == 0
    assert screen.count("Train now? [y/N]") == 1
    assert (tmp_path / "trained.txt").exists() == trains


@pytest.mark.parametrize(("flag", "trains"), [("--json", False), ("--no", False), ("--yes", True)])
def test_on_a_terminal_a_flag_answers(toy, tmp_path, flag, trains):
    code, screen = on_terminal(toy, tmp_path, b"y\n", flag)
    assert (code, "Train now?" in screen) == (0, False)
    assert (tmp_path / "trained.txt").exists() == trains


@pytest.mark.parametrize("flags", [("--json", "--yes"), ("--yes", "--no"), ("--gpu", "T4", "--board_w", "70")])
def test_flags_that_contradict_each_other_are_refused(run, flags):
    exit_code, _, err = run(FIT, flags=flags)
    assert exit_code == 2
    assert err[0].startswith("error: ")


# --- interrupted ------------------------------------------------------------------------------------------------------


def is_alive(pid):
    """Whether a process runs; one that only waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def alive_after(pids, seconds=10.0):
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < end:
        time.sleep(0.05)
    return left


WITH_OTHERS = "import os, subprocess\npids = [os.getpid(), subprocess.Popen(['sleep', '60']).pid]\n"
SAY = "open('pids', 'w').write(' '.join(map(str, pids)) + ' .')\n"
WAITING = {
    "before the fit": WITH_OTHERS + SAY + "import time\ntime.sleep(60)\n",
    "while it is tried": WITH_OTHERS
    + "def batches():\n    for i in range(10**6):\n        if i == 20:\n            "
    + SAY
    + "        yield 1\nimport keras\nkeras.Model().fit(batches(), steps_per_epoch=10**5)\n",
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("when", WAITING)
@pytest.mark.parametrize(("number", "code", "n_sure"), [(signal.SIGINT, 130, 2), (signal.SIGKILL, -9, 1)])
def test_no_process_outlives_the_command(toy, tmp_path, when, number, code, n_sure):
    """Of a killed command the script itself ends; what that started is told nothing."""
    (tmp_path / "train.py").write_text(WAITING[when])
    environ = {**os.environ, "PYTHONPATH": toy, "EPOCHCAST_HOME": str(tmp_path)}
    argv = [*COMMAND, "--budget_sec", "60", "train.py"]
    with (tmp_path / "screen").open("w") as screen:
        process = subprocess.Popen(argv, cwd=tmp_path, env=environ, stderr=screen)
    told = tmp_path / "pids"
    end = time.monotonic() + 30
    while not (told.exists() and told.read_text().endswith(" .")) and time.monotonic() < end:
        time.sleep(0.05)
    pids: list[int] = []
    try:
        pids = [int(pid) for pid in told.read_text().split()[:-1]]
        process.send_signal(number)
        assert process.wait(20) == code
        err = (tmp_path / "screen").read_text()
        assert alive_after(pids[:n_sure]) == []
        assert "Traceback" not in err
        if number == signal.SIGINT:
            assert err.splitlines()[-1] == "interrupted"
    finally:
        process.kill()
        process.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
