#!/usr/bin/env bash
# torch_tests.sh PYTHON VENV TORCH: run the tests marked torch in an environment of their own, made if it is missing.
#
# PyTorch is no part of the lock (docs/decisions/0019). What Keras and the tests need of the lock is installed by its
# hashes, without TensorFlow. Where pip finds no such build of PyTorch, this says so and is done: nothing larger is
# downloaded in its place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=$1 venv=$2 torch=$3
locked='absl-py|h5py|iniconfig|keras|markdown-it-py|mdurl|ml-dtypes|namex|numpy|nvidia-ml-py|optree|packaging|pillow'
locked+='|pluggy|psutil|pygments|pytest|rich|scipy|tqdm|typing-extensions'
made_of="$torch $(cksum requirements.txt) $locked"

if [[ "$(cat "$venv/ok" 2>/dev/null)" != "$made_of" ]]; then
    echo "installing $torch and what of the lock it is tested with into $venv (0.3 GB to download)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    pip=("$venv/bin/pip" install -q --disable-pip-version-check --no-compile)
    if ! output=$("${pip[@]}" "$torch" 2>&1); then
        rm -rf "$venv"
        if [[ "$output" =~ "No matching distribution found for $torch"|ResolutionImpossible ]]; then
            echo "torch is not tested: pip finds no $torch for $("$python" -V). It finds PyTorch's builds for processors" \
                "with PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"
            exit 0
        fi
        echo "$output" >&2
        exit 1
    fi
    awk -v names="$locked" '/^[a-z]/ { keep = $0 ~ "^(" names ")==" } keep' requirements.txt >"$venv/requirements.txt"
    "${pip[@]}" --require-hashes -r "$venv/requirements.txt"
    # this compiles what is imported; pip would compile all of PyTorch, which takes longer
    env -u PYTHONDONTWRITEBYTECODE KERAS_BACKEND=torch "$venv/bin/python" -c 'import keras, pytest, scipy.special'
    echo "$made_of" >"$venv/ok"
fi
"$venv/bin/python" -m pytest -q -m torch tests/test_torch.py
KERAS_BACKEND=torch exec "$venv/bin/python" -m pytest -q tests/epochcast/live/forecast
