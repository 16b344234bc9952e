"""A fit that a command follows, and its row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from epochcast.live.forecast.live_forecast import LiveForecast


def recorded_fit(
    fit: Callable[..., Any], model: keras.Model, x: Any, y: Any, options: Mapping[str, Any], source: str
) -> tuple[Any, list[str]]:
    """Train under a LiveForecast and append a row; return history and what prevented the row.

    Args:
        source: what the row says of where it comes from.
    """
    live, given = LiveForecast(), options.get("callbacks")
    live.keeps_row = False
    if hasattr(given, "append") and not isinstance(given, list):  # Keras's own list of callbacks
        given.append(live)  # type: ignore[union-attr]
        with_live = dict(options)
    else:  # before the others, whose work at the end of an epoch is not the epoch's
        own = given if isinstance(given, list | tuple) else [] if given is None else [given]
        with_live = {**options, "callbacks": [live, *own]}
    begin = time.perf_counter()
    history = fit(model, x, y, **with_live)
    live.keep(time.perf_counter() - begin, source)  # with the start of fit, which comes before any callback
    return history, live.fits[-1].notes if live.fits else []
