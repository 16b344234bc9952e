"""What three neighbouring programs compute, restated from their public code, for a comparison.

MLCost: github.com/DinaHongik/MLCost at d8e7b02. Green Love: github.com/PapakMate/green-love at 15663d5. EcoCompute:
github.com/hongping-zh/ecocompute-dynamic-eval at bf20d1b, and its own write-up for training, which its code does not
predict. Each list holds, in the order that decides, the entries that the compared names meet. What our facts have from
one of them is not repeated here.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable

from epochcast.interval import Interval

MLCOST_TDP_W = {"b200": 700, "h200": 700, "h100": 700, "h100pcie": 350, "a100": 400, "a100pcie": 300}
ECOCOMPUTE_TDP_W = {"a100": 400, "h100": 700}
GREEN_LOVE_BOARDS = {  # part of a driver's name: board whose published speeds are taken; the longest part decides
    "A100 80GB": "A100 SXM4 80GB",
    "A100": "A100 SXM4 80GB",
    "H100 PCIE": "H100 PCIe",
    "H100": "H100 SXM5",
}
GREEN_LOVE_SHARE_OF_LIMIT = 0.70  # where its power reading fails
GREEN_LOVE_KM_KG = 0.246
GREEN_LOVE_FP16_TFLOPS = {"H100": 989.4, "RTX 3090": 142.0}  # the second sums in fp16, the first is dense
ECOCOMPUTE_H100_EFFICIENCY = 0.72
ECOCOMPUTE_KM_PER_KG = 6.5


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
FIRST_SIZE, SEARCHES = 1000, 15  # images; sizes tried at most before one is taken as it is
SLOWEST_EPOCH_SEC, TARGET_SEC = 0.3, 10.0  # of an epoch and of TRIES while it looks for a size
MOVED = 0.1  # relative change of size below which it has found one
LONGEST_SEC, SHORTEST_SEC, STEP = 20.0, 1.0, 1.5  # of a size's TRIES epochs; from size to size


def green_love_forecast(
    step_sec: float, n_images: int, batch_size: int, epochs: int, noise: float, draw: random.Random
) -> tuple[Interval, float]:
    """Its forecast of a training with the "95 %" interval, and what that training takes; seconds.

    An epoch of k images takes `step_sec` for each of its steps, the last and smaller one included, times a normal
    factor of relative standard deviation `noise`, drawn anew each time. More `epochs` than WARMUP.
    """

    def epoch_sec(images: int) -> float:
        return math.ceil(images / batch_size) * step_sec * max(0.2, draw.gauss(1, noise))

    def timed(images: int) -> list[float]:
        return [epoch_sec(images) for _ in range(TRIES)]

    base = _green_love_size(epoch_sec, n_images, batch_size)
    by_size = {base: timed(base)}
    for factor, sign, last_sec in ((STEP, 1, LONGEST_SEC), (1 / STEP, -1, SHORTEST_SEC)):
        size, is_last = base, False
        while not is_last and batch_size // 8 <= (following := round(size * factor)) <= n_images and following != size:
            size, by_size[following] = following, timed(following)
            is_last = sign * sum(by_size[size]) > sign * last_sec  # and is kept
    full = [[t * n_images / size for t in times] for size, times in by_size.items()]  # scaled by images
    steady = [t for times in full for t in times[WARMUP:]]
    warm_up = math.fsum(statistics.fmean(times[i] for times in full) for i in range(WARMUP))
    value = warm_up + (epochs - WARMUP) * statistics.fmean(steady)
    half = 1.96 * statistics.stdev(steady) * math.sqrt(epochs) / math.sqrt(len(steady))
    return Interval.of_absolute(value, half), math.fsum(epoch_sec(n_images) for _ in range(epochs))


def _green_love_size(epoch_sec: Callable[[int], float], n_images: int, batch_size: int) -> int:
    """Images of the subset from which it goes up and down."""
    size = min(FIRST_SIZE, n_images)
    for _ in range(SEARCHES):
        times: list[float] = []
        while len(times) < TRIES and not (times and times[-1] > SLOWEST_EPOCH_SEC):
            times.append(epoch_sec(size))
        if times[-1] > SLOWEST_EPOCH_SEC and len(times) > 1:
            return max(batch_size, min(size * len(times), n_images))
        if times[-1] > SLOWEST_EPOCH_SEC:
            following = max(batch_size, size // 10)
            if following == size:
                return size
        else:
            following = max(batch_size, min(int(size * TARGET_SEC / sum(times)), n_images))
            if abs(following - size) < MOVED * size:
                return following
        size = following
    return size
