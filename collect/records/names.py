"""The names of runs: of a spec on a device, the same whenever it is asked for again, and of a run made by hand."""

from __future__ import annotations

import functools
import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime

from epochcast.machine.packages import backend_name
from epochcast.schema import RunSpec

DEFAULT = RunSpec()
LATER_FIELDS = ("steps_per_execution", "target_ci", "max_epochs", "max_sec", "compile_cache")  # new in schema 2


def spec_id(spec: RunSpec, device_name: str) -> str:
    """Return a name for a spec on a device, equal whenever it is asked for again, e.g. `d2_f16_b128-1f0c9a52`.

    It is of the backend that Keras will take here.
    """
    return spec_ids(spec, [(device_name, backend_name())])[0]


def spec_ids(spec: RunSpec, places: Iterable[tuple[str, str]]) -> list[str]:
    """Return the names of a spec on devices with backends; as quick for a hundred as `spec_id` for a few."""
    values = asdict(spec)
    for name in LATER_FIELDS:  # at its default it is what was measured before there was such a field: the same run
        if values[name] == getattr(DEFAULT, name):
            del values[name]
    lead = spec.config.slug
    of_spec = hashlib.sha256(f"[{json.dumps(values, sort_keys=True)}, ".encode())
    names = []
    for place in places:
        digest = of_spec.copy()
        digest.update(_place_bytes(*place))
        names.append(f"{lead}-{digest.hexdigest()[:8]}")
    return names


@functools.lru_cache(maxsize=4096)
def _place_bytes(device_name: str, backend: str) -> bytes:
    return f"{json.dumps(device_name)}, {json.dumps(backend)}]".encode()


def new_run_id(spec: RunSpec) -> str:
    """A name for a run measured by hand: configuration, start and four random letters."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{spec.config.slug}-{stamp}-{secrets.token_hex(2)}"
