"""What three neighbouring programs compute, restated from their public code, for a comparison.

MLCost: github.com/DinaHongik/MLCost at d8e7b02. Green Love: github.com/PapakMate/green-love at 206ff0e. EcoCompute:
github.com/hongping-zh/ecocompute-dynamic-eval at bf20d1b, and its own write-up for training, which its code does not
predict. Each list holds, in the order that decides, the entries that the compared names meet.
"""

from __future__ import annotations

import math
import random

from epochcast.interval import Interval

MLCOST_TDP_W = {"b200": 700, "h200": 700, "h100": 700, "h100pcie": 350, "a100": 400, "a100pcie": 300}
ECOCOMPUTE_TDP_W = {"a100": 400, "h100": 700}
GREEN_LOVE_BOARDS = {  # part of a driver's name: board whose published speeds are taken; the longest part decides
    "A100 80GB": "A100 SXM4 80GB",
    "A100": "A100 SXM4 80GB",
    "H100 PCIE": "H100 PCIe",
    "H100": "H100 SXM5",
}
MLCOST_OVERHEAD = 1.30  # the share of host and cooling in its formula; not called PUE
GREEN_LOVE_SHARE_OF_LIMIT = 0.70  # where its power reading fails
GREEN_LOVE_KM_KG, GREEN_LOVE_TREE_KG_PER_YEAR = 0.246, 21.77
GREEN_LOVE_RTX_3090_FP16_TFLOPS = 142.0  # summing in fp16; its H100 is dense
ECOCOMPUTE_H100_FP16_TFLOPS, ECOCOMPUTE_H100_EFFICIENCY = 1979.0, 0.72
ECOCOMPUTE_KM_PER_KG = 6.5
ECOCOMPUTE_G_PER_KWH, ECOCOMPUTE_USD_PER_KWH, ECOCOMPUTE_PUE = 475.0, 0.12, 1.2  # whichever region is selected


def mlcost_tdp_w(name: str) -> int:
    """Of the first key that is a part of the name, without separators."""
    plain = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    return next((watts for key, watts in MLCOST_TDP_W.items() if key in plain), 300)


def ecocompute_tdp_w(name: str) -> int | None:
    """Of the first key that is a part of the name."""
    return next((watts for key, watts in ECOCOMPUTE_TDP_W.items() if key in name.lower()), None)


def green_love_board(name: str) -> str | None:
    """The board of the longest key that is a part of the name."""
    plain = name.upper().replace("NVIDIA", "").strip()
    keys = sorted(GREEN_LOVE_BOARDS, key=len, reverse=True)
    return next((GREEN_LOVE_BOARDS[key] for key in keys if key in plain), None)


# --- Green Love's forecast of a training, and its interval ------------------------------------------------------------

TRIES = 30  # epochs timed at each size
WARMUP = 3
FIRST_SIZE = 1000  # images
TARGET_SEC, LONGEST_SEC, SHORTEST_SEC, STEP = 10.0, 20.0, 1.0, 1.5  # of a size's TRIES epochs; from size to size


def green_love_forecast(
    step_sec: float, n_images: int, batch_size: int, epochs: int, noise: float, draw: random.Random
) -> tuple[Interval, float]:
    """Its forecast of a training with the "95 %" interval, and what that training takes; seconds.

    An epoch of k images takes `step_sec` for each of its steps, the last and smaller one included, times a normal
    factor of relative standard deviation `noise`, drawn anew each time.
    """

    def epoch_sec(images: int) -> float:
        return math.ceil(images / batch_size) * step_sec * max(0.2, draw.gauss(1, noise))

    start_sec = sum(epoch_sec(FIRST_SIZE) for _ in range(TRIES))
    images = min(n_images, int(FIRST_SIZE * TARGET_SEC / start_sec))
    forecasts: list[float] = []  # of a full epoch, each size's timed ones after its warm-up
    warm_ups: list[float] = []
    for factor, size in ((STEP, images), (1 / STEP, int(images / STEP))):
        while batch_size / 8 <= size <= n_images:
            times = [epoch_sec(size) * n_images / size for _ in range(TRIES)]
            total_sec = sum(times) * size / n_images
            if not SHORTEST_SEC <= total_sec <= LONGEST_SEC:
                break
            warm_ups = warm_ups or times[:WARMUP]
            forecasts += times[WARMUP:]
            size = int(size * factor)
    mean = math.fsum(forecasts) / len(forecasts)
    sd = math.sqrt(math.fsum((t - mean) ** 2 for t in forecasts) / (len(forecasts) - 1))
    value = math.fsum(warm_ups) + (epochs - WARMUP) * mean
    half = 1.96 * sd * math.sqrt(epochs) / math.sqrt(len(forecasts))
    return Interval.of_absolute(value, half), math.fsum(epoch_sec(n_images) for _ in range(epochs))
