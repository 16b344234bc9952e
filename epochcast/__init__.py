"""Epochcast: measure, predict and plan Keras training runs on one GPU."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epochcast.live.forecast.live_forecast import LiveForecast as LiveForecast
    from epochcast.live.program.in_program import estimate as estimate

__version__ = "0.1.0"
__all__ = ["STAGES", "LiveForecast", "__version__", "estimate"]
STAGES = ("workload", "collect", "aggregate", "model", "planner")  # data flows from left to right


def __getattr__(name: str) -> Any:  # Any: as the protocol of modules has it
    """Import what a user's own program calls once it is named: nothing else pays for it."""
    if name == "estimate":
        from epochcast.live.program.in_program import estimate

        return estimate
    if name == "LiveForecast":  # a class of Keras's, which is imported here
        from epochcast.live.forecast.live_forecast import LiveForecast

        return LiveForecast
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
