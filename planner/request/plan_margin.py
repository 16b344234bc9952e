"""The margin that a confidence asks for, and the candidates whose error is known well enough for it."""

from __future__ import annotations

from collections.abc import Sequence

from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.output.text import percent
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.make_candidates import Offer
from epochcast.planner.plan.margin import NO_MARGIN, Margin
from epochcast.planner.request.request import DEFAULT_CONFIDENCE, Request


def confidence_of(request: Request) -> float:
    """Return the share of plans that are to keep their budget; 0.5 is without a margin."""
    return DEFAULT_CONFIDENCE if request.confidence is None else request.confidence


def margin_of(
    request: Request,
    must: Sequence[Candidate],
    candidates: Sequence[Candidate],
    offer: Offer,
    saved: SavedModel | None,
) -> tuple[list[Candidate], Margin, list[str]]:
    """Return the candidates whose error is known, the margin that the confidence asks for, and notes.

    Where no run's error is known, a confidence that was not asked for is given up, and said so.

    Raises:
        ValueError: if a confidence was asked for and a run that has to be in, or every run, has an unknown error.
    """
    confidence = confidence_of(request)
    if confidence <= 0.5:
        return list(candidates), NO_MARGIN, []
    unknown = [c for c in [*must, *candidates] if c.sd_sec is None]
    known = [c for c in candidates if c.sd_sec is not None]
    more = "" if saved is None else "; ".join(_unknown_ranges(saved, unknown))
    if unknown and (not known or any(c.sd_sec is None for c in must)):
        parts = [
            words
            for name, words in (("overhead", "overhead"), ("first_epoch", "first epoch"), ("steady", "steady time"))
            if any(getattr(c, name).high is None for c in unknown)
        ]
        why = f"the error of the {' and of the '.join(parts)} is unknown{f' ({more})' if more else ''}"
        if request.confidence is not None:
            raise ValueError(
                f"--confidence {confidence:g}: {why}, so no margin can be told. Measure a few runs, name "
                "--overhead_sec or --first_epoch, or plan without a margin: --confidence 0.5"
            )
        return list(candidates), NO_MARGIN, [f"no margin: {why}; about half of such plans overrun"]
    notes = []
    if unknown:
        why = f" ({more})" if more else ""
        notes.append(
            f"{len(unknown)} candidates left out: the error of their times is unknown{why}; --confidence 0.5 keeps them"
        )
    notes += offer.error_notes
    common_sd = request.common_sd
    if common_sd is None:
        kind = device_kind_of(offer.device_name)
        common_sd = assumption("plan_common_sd", kind).value
        notes.append(f"a factor common to all runs is assumed to spread by {percent(common_sd)} ({kind}; --common_sd)")
    return known, Margin.of_confidence(confidence, common_sd), notes


def _unknown_ranges(saved: SavedModel, candidates: Sequence[Candidate]) -> list[str]:
    """Why the model knows no range of some predicted candidates, each reason once, with the domain it is of."""
    domains = (saved.range.domain(c.config, saved.widths.axes) for c in candidates if c.is_predicted)
    return [f"{domain}: {why}" for domain in dict.fromkeys(domains) if (why := saved.widths.why_unknown(domain))]
