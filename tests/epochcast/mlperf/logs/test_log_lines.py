"""Lines of MLPerf's logging in all three formats, wherever they stand, and however the file is cut into parts."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from epochcast.mlperf.logs.log_lines import MOST_LINE_BYTES, marked_lines, read_lines

FIRST = b':::MLPv0.5.0 resnet 1541567986 (caffe.cpp:350) run_stop: {"success": true}'
SECOND = b':::MLL 1560848966.664 seed: {"metadata": {"file": "a.py", "lineno": 2}, "value": 7}'
THIRD = b':::MLLOG {"time_ms": 1712973717648, "key": "run_start", "value": null, "metadata": {"lineno": 3}}'
WANTED = {"run_start", "run_stop", "seed"}


def found(text, wanted=WANTED):
    return [(line.key, line.time_sec, line.value) for line in read_lines([text], wanted)]


@pytest.mark.parametrize(
    "before", [b"", b"0: ", b" 12: ", b"[0] ", b"[1,3]<stdout>:", b"INFO:mlperf_compliance:", b"\x1b[32m", b"\xff\xfe "]
)
def test_a_line_of_each_format_is_read_behind_any_text(before):
    assert found(before + FIRST) == [("run_stop", 1541567986, {"success": True})]
    assert found(before + SECOND) == [("seed", 1560848966.664, 7)]
    assert found(before + THIRD + b"\r\n") == [("run_start", 1712973717.648, None)]


def test_a_line_without_a_value_and_one_with_a_bare_word_are_read():
    assert found(b":::MLPv0.5.0 ncf 1542350544.620 (Neural.scala:133) run_start") == [
        ("run_start", 1542350544.62, None)
    ]
    assert found(b':::MLPv0.5.0 resnet 15 (<string>:1) seed: "none"') == [("seed", 15, "none")]
    assert found(b":::MLPv0.5.0 resnet 15 (<string>:1) seed: none") == [("seed", 15, "none")]


def test_seconds_stand_for_a_time_where_there_are_no_milliseconds():
    assert found(b':::MLLOG {"value": 1, "key": "seed", "time_s": 1593422652.5}') == [("seed", 1593422652.5, 1)]


def test_a_line_that_is_no_json_says_when_and_nothing_else():
    python = b":::MLL 1560875622.0 run_stop: {\"value\": null, \"metadata\": {'status': 'success'}}"
    (line,) = read_lines([python], WANTED)
    assert (line.time_sec, line.value, line.metadata, line.is_whole) == (1560875622.0, None, {}, False)
    (line,) = read_lines([THIRD[:-20]], WANTED)
    assert (line.time_sec, line.is_whole) == (None, False)
    assert found(b':::MLLOG {"key": "seed", ' + b"[" * 100_000) == [("seed", None, None)]


def test_two_lines_that_ranks_wrote_into_one_are_two():
    assert len(found(THIRD + SECOND + b"\n" + FIRST)) == 3


def test_other_keys_and_other_text_are_passed_over():
    noise = b'step 1 :::M\n:::MLLOG {"key": "tracked_stats", "value": {"seed": 1}}\n:::MLL\n:::MLLOG\n:::ML\n'
    assert found(noise) == []


@pytest.mark.parametrize("seed", range(50))
def test_however_a_log_is_cut_into_parts_its_lines_are_the_same(seed):
    rng = random.Random(seed)
    lines = [rng.choice([FIRST, SECOND, THIRD, b"", b"loss 0.3", b":::", b"x:::ML"]) for _ in range(30)]
    text = b"\n".join(lines) + rng.choice([b"", b"\n"])
    cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(1, 40)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert list(marked_lines(parts)) == list(marked_lines([text]))
    assert list(marked_lines(parts)) == [line[line.find(b":::ML") :] for line in lines if b":::ML" in line]


@pytest.mark.parametrize("part", [b"\0" * (1 << 20), b":::ML" * (1 << 18), b":::MLLOG {" + b"[" * (1 << 20)])
def test_a_line_without_an_end_takes_no_memory(part):
    tracemalloc.start()
    n = sum(1 for _ in marked_lines(part for _ in range(20)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MOST_LINE_BYTES
    assert n <= 1 << 19
