"""Memory by the frameworks on a GPU, which this machine does not have: a double stands in for each."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from epochcast.machine.device_memory import memory_limit_bytes, peak_memory_bytes, reset_peak_memory


@pytest.fixture
def torch(monkeypatch):
    made = ModuleType("torch")
    calls = []
    made.cuda = SimpleNamespace(
        is_initialized=lambda: True,
        max_memory_allocated=lambda: 5_000_000,
        reset_peak_memory_stats=lambda: calls.append("reset"),
        calls=calls,
    )
    monkeypatch.setitem(sys.modules, "torch", made)
    return made.cuda


def test_the_peak_of_torch_is_its_allocators_and_begins_anew_where_asked(torch):
    reset_peak_memory("torch")
    assert torch.calls == ["reset"]
    assert peak_memory_bytes("torch") == 5_000_000


def test_torch_is_not_started_on_a_gpu_to_be_asked(torch):
    torch.is_initialized = lambda: False
    reset_peak_memory("torch")
    assert torch.calls == []
    assert peak_memory_bytes("torch") is None


@pytest.mark.parametrize(
    ("statistics", "limit"),
    [(None, None), ({}, None), ({"bytes_limit": 0}, None), ({"bytes_limit": 6 * 10**10}, 6 * 10**10)],
)
def test_what_jax_allows_itself_is_its_own_limit(monkeypatch, statistics, limit):
    jax = ModuleType("jax")
    jax.devices = lambda: [SimpleNamespace(memory_stats=lambda: statistics)]
    monkeypatch.setitem(sys.modules, "jax", jax)
    assert memory_limit_bytes("jax") == limit
    reset_peak_memory("jax")  # which JAX can't


def test_the_others_have_no_limit_to_be_asked_for():
    assert memory_limit_bytes("tensorflow") is None
    assert memory_limit_bytes("torch") is None
