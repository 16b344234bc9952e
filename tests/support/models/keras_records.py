"""Layer records for tests, by name and in sum."""

from __future__ import annotations


def forward_flop(network):
    return sum(record.forward_flop for record in network.records)


def by_name(network):
    return {record.name: record for record in network.records}


def is_known(network):
    return not network.unknown and not network.partial
