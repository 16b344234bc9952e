"""A forecast in a line."""

from __future__ import annotations

from datetime import datetime, timedelta

from epochcast.interval import Interval
from epochcast.live.forecast.history import FitHistory, Forecast
from epochcast.live.forecast.usage import Used
from epochcast.live.text import duration
from epochcast.output.text import significant


def forecast_line(fit: FitHistory, found: Forecast, now: datetime) -> str:
    """Return what is left, and what the fit has used and will have used."""
    remaining = found.remaining
    done = f"epoch {found.after_epoch} of {fit.epochs}" if fit.done else f"before epoch {found.after_epoch + 1}"
    parts = [f"{done}: {_left(remaining)} left"]
    if found.earliest_stop is not None and found.earliest_stop < fit.epochs:
        parts[0] += f" if all epochs run (earliest stop: after epoch {found.earliest_stop})"
    parts.append(f"ends {_time_of_day(now, remaining.value)}")
    used = [_used(name, each) for name, each in (("so far", found.to_date), ("in all", found.at_end))]
    return "; ".join([*parts, *filter(None, used)])


def end_line(fit: FitHistory) -> str:
    """Return how a fit ended and what it took."""
    last = fit.forecasts[-1] if fit.forecasts else None
    used = None if last is None else _used("used", last.to_date)
    n = sum(not each.is_cut for each in fit.done)
    part = " and a part of one" if n < len(fit.done) else ""
    text = f"{n} epoch{'s' * (n != 1)}{part} in {duration(fit.sec or 0.0)} ({fit.ended})"
    return f"{text}; {used}" if used else text


def _left(remaining: Interval) -> str:
    if remaining.low is None or remaining.high is None:
        return f"about {duration(remaining.value)}"
    return f"{duration(remaining.value)} ({duration(remaining.low)} to {duration(remaining.high)})"


def _time_of_day(now: datetime, sec: float) -> str:
    end = now + timedelta(seconds=sec)
    return end.strftime("%H:%M:%S" if end.date() == now.date() else "%Y-%m-%d %H:%M")


def _used(name: str, used: Used | None) -> str:
    if used is None or used.kwh is None:
        return ""
    parts = [f"{significant(1000 * used.kwh.value)} Wh"]
    for value, unit, factor in ((used.electricity_usd, "USD", 1.0), (used.kg_co2e, "g CO2", 1000.0)):
        if value is not None:
            parts.append(f"{significant(factor * value.value)} {unit}")
    return f"{name} {', '.join(parts)}"
