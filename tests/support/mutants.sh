#!/usr/bin/env bash
# mutants.sh PYTHON VENV MUTMUT [FLAG ...]: run tests.support.mutants in an environment of its own, made if it is missing.
#
# mutmut is no part of the lock. What the tests of the core need of the lock is installed by its hashes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=$1 venv=$2 mutmut=$3
shift 3
locked='h5py|hypothesis|iniconfig|numpy|nvidia-ml-py|packaging|pandas|pluggy|psutil|pygments|pytest|python-dateutil|scipy'
locked+='|six|sortedcontainers|tqdm|tzdata'
made_of="$mutmut $(cksum requirements.txt) $locked"

if [[ "$(cat "$venv/ok" 2>/dev/null)" != "$made_of" ]]; then
    echo "installing $mutmut and what of the lock the core is tested with into $venv (0.1 GB to download)"
    rm -rf "$venv" mutants
    "$python" -m venv "$venv"
    pip=("$venv/bin/pip" install -q --disable-pip-version-check)
    awk -v names="$locked" '/^[a-z]/ { keep = $0 ~ "^(" names ")==" } keep' requirements.txt >"$venv/requirements.txt"
    "${pip[@]}" --require-hashes -r "$venv/requirements.txt"
    "${pip[@]}" "$mutmut"
    echo "$made_of" >"$venv/ok"
fi
exec "$venv/bin/python" -m tests.support.mutants "$@"
