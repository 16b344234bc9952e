"""Ways to part entries into those that are learned from and those that are judged."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from epochcast.mlperf.records import round_number
from epochcast.mlperf.regressor.entries import EntryMedian, family_of

FOLDS = 5
# split: what all entries of one group have in common; a group is never on both sides
GROUPED = {
    "entry": "round, submitter, system and benchmark",
    "submitter": "submitter, benchmark, device and count, in all rounds",
    "configuration": "benchmark, device and count, of all submitters",
    "family": "device family, each left out by itself",
}
FORWARD = "forward"
FIRST_FORWARD = "2.0"  # earlier rounds have few before them
Fold = tuple[list[EntryMedian], list[EntryMedian]]  # learned from, judged


def folds_of(split: str, entries: Sequence[EntryMedian], seed: int) -> Iterator[Fold]:
    """Yield the folds of a split by groups, or one for each family."""
    groups = [_group(split, each) for each in entries]
    names = sorted(set(groups), key=repr)
    if split == "family":
        fold_of = {name: i for i, name in enumerate(names)}
    else:
        order = np.random.default_rng(seed).permutation(len(names))
        fold_of = {name: int(i) % FOLDS for name, i in zip(names, order, strict=True)}
    for fold in sorted(set(fold_of.values())):
        yield (
            [each for each, name in zip(entries, groups, strict=True) if fold_of[name] != fold],
            [each for each, name in zip(entries, groups, strict=True) if fold_of[name] == fold],
        )


def forward_folds(entries: Sequence[EntryMedian]) -> Iterator[tuple[str, Fold]]:
    """Yield each round from FIRST_FORWARD on, judged by what was learned from all rounds before it."""
    names = sorted({each.round for each in entries}, key=round_number)
    for name in names[1:]:
        if round_number(name) >= round_number(FIRST_FORWARD):
            before = [each for each in entries if round_number(each.round) < round_number(name)]
            yield name, (before, [each for each in entries if each.round == name])


def _group(split: str, each: EntryMedian) -> Hashable:
    if split == "entry":
        return each.entry
    if split == "submitter":
        return each.submitter, *each.workload.configuration
    return each.workload.configuration if split == "configuration" else family_of(each.device)
