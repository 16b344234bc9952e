import pytest

from epochcast.machine.disturbance import ProcessSnapshot, is_shared, is_throttled, throttle_words

STEADY = [1980.0] * 30


@pytest.mark.parametrize("word", ["hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake"])
def test_slowdown_that_the_driver_names_throttles(word):
    assert is_throttled([()] * 20 + [(word,)] * 10, STEADY)
    assert not is_throttled([()] * 29 + [(word,)], STEADY)  # a moment is no share


@pytest.mark.parametrize("word", ["sw_power_cap", "applications_clocks", "sync_boost"])
def test_clock_held_at_a_limit_that_is_meant_does_not_throttle(word):
    assert not is_throttled([(word,)] * 30, STEADY)


def test_clock_that_falls_to_the_power_limit_does_not_throttle_and_one_that_falls_further_does():
    capped, clocks = [("sw_power_cap",)] * 50, [1980.0] * 10 + [1740.0] * 40
    assert not is_throttled(capped, clocks)
    assert not is_throttled([(), *capped[1:]], clocks)
    assert is_throttled([None] * 50, clocks)  # nobody says that it was the limit
    assert is_throttled([("applications_clocks", "sw_power_cap")] * 50, clocks)
    assert is_throttled([()] * 20 + capped[:10] + [()] * 20, [1980.0] * 20 + [1740.0] * 10 + [1200.0] * 20)


def test_readings_without_a_clock_are_left_out():
    asked = [1980.0, None] * 15 + [1200.0, None] * 15
    assert is_throttled([()] * 60, asked)
    assert not is_throttled([()] * 60, [1980.0, None] * 30)


@pytest.mark.parametrize("first", range(24))
def test_clock_that_drops_for_a_fifth_of_the_time_throttles_without_a_word(first):
    clocks = [1400.0 if first <= i < first + 6 else 1980.0 for i in range(30)]
    assert is_throttled([()] * 30, clocks)
    assert is_throttled([None] * 30, clocks)


def test_clock_that_only_breathes_does_not_throttle():
    assert not is_throttled([()] * 30, [1980.0 - 90 * (i % 2) for i in range(30)])
    assert not is_throttled([()] * 30, [1980.0 - 5 * i for i in range(30)])
    assert not is_throttled([()] * 30, [*STEADY[:-1], 1200.0])


def test_too_few_readings_of_the_clock_tell_nothing():
    assert not is_throttled([()] * 4, [1980.0, 1980.0, 1200.0, 1200.0])
    assert not is_throttled([], [])


def test_words_of_the_row():
    assert throttle_words([(), ("sw_power_cap",), ("sw_power_cap", "hw_slowdown")]) == "hw_slowdown;sw_power_cap"
    assert throttle_words([(), ()]) == "none"
    assert throttle_words([None, None]) is None
    assert throttle_words([]) is None


def snapshot(time_sec, *computing, drawing=()):
    return ProcessSnapshot(time_sec, frozenset(computing), frozenset(computing) | frozenset(drawing))


NOBODY = snapshot(0.0)
OURS = 100


@pytest.mark.parametrize(
    ("baseline", "snapshots", "expected"),
    [
        (NOBODY, [snapshot(5, OURS)], False),
        (NOBODY, [snapshot(5, OURS, 7)], True),  # came while it ran
        (NOBODY, [snapshot(5, OURS, drawing=[7])], True),  # somebody began to draw
        (snapshot(0, 7), [snapshot(5, 7, OURS)], True),  # was there before
        (snapshot(0, 7), [snapshot(1, 7), snapshot(5, OURS)], False),  # was there before, and went
        (snapshot(0, drawing=[7]), [snapshot(5, OURS, drawing=[7])], False),  # the desktop
        (NOBODY, [snapshot(1, 7), snapshot(2, OURS), snapshot(11, OURS, 8)], False),  # before and after it was timed
        (NOBODY, [snapshot(3.5, OURS, 7)], True),  # the last look before a window too short to hold one
        (NOBODY, [snapshot(5, 31234)], False),  # a container: ours, by the id of the host
        (NOBODY, [snapshot(5, 31234), snapshot(6, 31234, 31300)], True),  # and another one
        (snapshot(0, 31000), [snapshot(5, 31000, 31234)], True),
        (NOBODY, [], False),
    ],
)
def test_who_shares_the_gpu(baseline, snapshots, expected):
    assert is_shared(baseline, snapshots, 4.0, 10.0, {OURS}) is expected
