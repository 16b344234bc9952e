"""The description of a system in all its forms: accelerators and their number.

Counts are of the description alone. A folder's name counts cores, accelerators, nodes or racks, so no count is taken
from it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from epochcast.mlperf.records import DIVISIONS

MOST_BYTES = 1 << 18  # of a description that is read
LONGEST_TEXT = 200  # characters of a name
_NOTHING = {"", "na", "n/a", "none", "tbd", "todo", "-"}
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_LINE = re.compile(r"^(\w+): (\{.*\})\s*$", re.M)
_SOCKETS = re.compile(r"\b(\d{1,3})\s?x\s")  # as in `2x Intel(R) Xeon(R)`
_WATTS = re.compile(r"\bTDP\s*:\s*(\d{2,4})\s*W\b", re.IGNORECASE)
_TPU_CORES = re.compile(r"tpu-?v[23]-(\d{1,5})", re.IGNORECASE)
CORES_PER_CHIP = 2  # of a TPU v2 and v3


@dataclass(frozen=True, slots=True)
class System:
    """What a description says; None is unknown."""

    name: str | None = None
    division: str | None = None
    framework: str | None = None
    accelerator: str | None = None  # as it is spelled; None also of a system without accelerators
    memory: str | None = None  # of one accelerator, as it is spelled
    interconnect: str | None = None  # of the accelerators
    power_limit_w: float | None = None  # of one accelerator, where the notes state it
    processor: str | None = None
    n_nodes: int | None = None
    n_accelerators: int | None = None  # of the whole system; 0: it has none
    n_sockets: int | None = None  # of processors, of the whole system


def read_system(raw: bytes) -> System | None:
    """Return what the file of a description says; None where it can't be read."""
    text = raw.decode("utf-8-sig", errors="replace")
    found = _json(_TRAILING_COMMA.sub(r"\1", text))
    if isinstance(found, dict):
        return _system_of(found)
    values: dict[str, Any] = {}
    for key, told in _LINE.findall(text):  # round 0.6: the lines of a log instead of JSON
        value = _json(told)
        values[key] = value.get("value") if isinstance(value, dict) else None
    return system_of_entry(values["entry"], values) if isinstance(values.get("entry"), str) else None


def system_of_entry(entry: str, others: dict[str, Any] | None = None) -> System | None:
    """Return what the text of a Python dictionary says (round 0.6); None if unreadable."""
    found = _literal(entry)
    return _system_of({**(others or {}), **found}) if isinstance(found, dict) else None


def _system_of(said: dict[str, Any]) -> System:
    nodes = _first_node(said.get("nodes"))
    return _system_of_nodes(said, nodes) if nodes is not None else _system_of_fields(said)


def _system_of_fields(said: dict[str, Any]) -> System:
    """Return what a description of round 0.7 or later says."""
    n_nodes = _count(_first_of(said, "number_of_nodes", "number of nodes"))
    accelerator = _text(said.get("accelerator_model_name"))
    per_node = _count(said.get("accelerators_per_node"))
    return System(
        name=_text(said.get("system_name")),
        division=_division(said),
        framework=_text(_first_of(said, "framework", "framework_name")),
        accelerator=accelerator,
        memory=_text(said.get("accelerator_memory_capacity")),
        interconnect=_text(said.get("accelerator_interconnect")),
        power_limit_w=_watts(_text(said.get("hw_notes"))),
        processor=_text(said.get("host_processor_model_name")),
        n_nodes=n_nodes,
        n_accelerators=0 if accelerator is None and not per_node else _product(n_nodes, per_node),
        n_sockets=_product(n_nodes, _count(said.get("host_processors_per_node"))),
    )


def _system_of_nodes(said: dict[str, Any], node: dict[str, Any]) -> System:
    """Return what a description of round 0.5 or 0.6 says."""
    n_nodes, per_node = _count(node.get("num_nodes")), _count(node.get("num_accelerators"))
    accelerator = _text(node.get("accelerator"))
    processor = _text(node.get("cpu"))
    cores = None if accelerator is None else _TPU_CORES.fullmatch(accelerator)
    n_accelerators = 0 if accelerator is None and not per_node else _product(n_nodes, per_node)
    if cores is not None:  # of a TPU whose name counts cores, num_accelerators is the total of cores
        n_accelerators = int(cores[1]) // CORES_PER_CHIP
    words = " ".join(filter(None, (processor, _text(said.get("hardware")))))
    sockets = _SOCKETS.search(words)
    return System(
        name=_text(_first_of(said, "system_name", "hardware")),
        division=_division(said),
        framework=_text(said.get("framework")),
        accelerator=accelerator,
        processor=processor,
        n_nodes=n_nodes,
        n_accelerators=n_accelerators,
        n_sockets=None if sockets is None else _product(n_nodes, int(sockets[1])),
    )


def only_like(name: str, systems: Iterable[System]) -> System | None:
    """Return the only system whose accelerator a folder's name mentions, else None."""
    words = _model_words(name)
    found = [s for s in systems if s.accelerator is not None and words & _model_words(s.accelerator)]
    return found[0] if len(found) == 1 else None


def _model_words(text: str) -> set[str]:
    """Return the words of a text that name a model: letters with digits after them."""
    return set(re.findall(r"\b[a-z]+\d+[a-z]*\b", text.lower()))


def _first_node(said: Any) -> dict[str, Any] | None:
    nodes = _literal(said) if isinstance(said, str) else said
    nodes = nodes[0] if isinstance(nodes, list) and nodes else nodes
    return nodes if isinstance(nodes, dict) else None


def _first_of(said: dict[str, Any], *names: str) -> Any:
    return next((said[name] for name in names if said.get(name) not in (None, "")), None)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _literal(text: str) -> Any:
    """Return the value of a Python literal; nothing is executed."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    text = " ".join(str(value).split()) if isinstance(value, str | int | float) else ""
    return None if text.lower() in _NOTHING else text[:LONGEST_TEXT]


def _count(value: Any) -> int | None:
    """Return a count that a description gives as a number or as text."""
    if isinstance(value, bool):
        return None
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    text = text.removesuffix(".0")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 8 else None


def _product(one: int | None, other: int | None) -> int | None:
    """Return the product of two counts; None where one of them is unknown or none."""
    return one * other if one and other else None


def _division(said: dict[str, Any]) -> str | None:
    text = str(_first_of(said, "division", "divison")).strip().lower()
    return {"close": "closed"}.get(text, text) if text in (*DIVISIONS, "close") else None


def _watts(notes: str | None) -> float | None:
    match = _WATTS.search(notes or "")
    return None if match is None else float(match[1])
