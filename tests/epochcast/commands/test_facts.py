"""`epochcast facts` lists, filters and shows sources, years and disagreements."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from epochcast.__main__ import main
from epochcast.commands import facts as facts_command
from epochcast.facts import topics as fact_topics
from epochcast.facts.tables import carbon_intensities, gpu_disputes, gpus
from epochcast.facts.topics import TOPICS, shown_rows
from tests.support.machines.boxes import Board, plug_in


@pytest.fixture
def facts(capsys):
    """Runs the command: lines of the answer."""

    def run(*arguments):
        assert main(["facts", *arguments]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out.splitlines()

    return run


@pytest.fixture
def refused(capsys):
    """Runs the command, which fails with one line."""

    def run(*arguments):
        assert main(["facts", *arguments]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    return run


def test_without_a_topic_it_tells_what_there_is(facts):
    lines = facts()
    assert [line.split()[0] for line in lines[1 : 1 + len(TOPICS)]] == list(TOPICS)
    carbon = next(line for line in lines if line.startswith("carbon "))
    assert str(len(carbon_intensities())) in carbon.split()
    assert "carbon: EcoCompute, carbontracker, codecarbon, green-love" in lines


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_lists_every_row_with_its_source_and_year_in_120_columns(facts, topic):
    lines = facts(topic)
    assert max(map(len, lines)) <= 120
    table = lines[2 : lines.index("")]
    assert len(table) == len(TOPICS[topic].rows())
    footnotes = {line.split()[0] for line in lines[lines.index("sources and notes") :] if line[:3].strip().isdigit()}
    cited = {number for line in table for number in line.split()[-1].split(",")}
    assert cited == footnotes
    n_unknown = sum(row.year is None for row in TOPICS[topic].rows())
    assert sum("year unknown" in line for line in table) == n_unknown


def test_a_gpu_has_its_row_prices_speeds_and_what_others_say(facts):
    text = "\n".join(facts("--gpu", "NVIDIA H100 80GB HBM3"))
    assert "H100 SXM5 hopper 67 494.7 989.4? 989.4 80 3350? 700 2022" in re.sub(" +", " ", text)
    told = "told elsewhere: fp16 1979, so 989.4 to 1979, by EcoCompute (github.com/hongping-zh/ecocompute-dynamic-eval)"
    assert f"{told}, year unknown; with sparsity: twice the dense rate" in re.sub(r"\s+", " ", text)
    assert "p5.48xlarge" in text
    assert "waveglow" in text
    assert "A100" not in text


def test_a_power_limit_in_a_name_is_shown_in_the_row(facts):
    (line,) = facts("gpus", "--gpu", "A100-SXM4-80GB(500W)", "--json")
    (row,) = json.loads(line)["gpus"]
    assert (row["name"], row["tdp_w"]) == ("A100 SXM4 80GB", 500)
    assert "500 W from the name 'A100-SXM4-80GB(500W)'" in row["notes"]
    (line,) = (line for line in facts("gpus", "--gpu", "A100-SXM4-80GB(500W)") if line.startswith("A100 SXM4"))
    assert " 2039    500  " in line


def test_several_gpus_can_be_asked_for(facts):
    (line,) = facts("--gpu", "L4", "--gpu", "T4", "--gpu", "NVIDIA L4", "--json")
    answer = json.loads(line)
    assert [row["name"] for row in answer["gpus"]] == ["T4", "L4"]
    assert {row["gpu"] for row in answer["cloud_prices"]} == {"T4", "L4"}


def test_a_gpu_of_which_others_tell_another_value_is_in_dispute(facts):
    (line,) = facts("gpus", "--disagreements", "--json")
    rows = {row["name"]: row for row in json.loads(line)["gpus"]}
    assert set(rows) == {dispute.gpu for dispute in gpu_disputes()}
    (told,) = rows["RTX 3070"]["told_elsewhere"]
    assert (told["column"], told["value"], rows["RTX 3070"]["memory_bandwidth_gbs"]) == (
        "memory_bandwidth_gbs",
        512,
        448,
    )
    (line,) = facts("--json")
    counts = {topic["topic"]: topic["disputed"] for topic in json.loads(line)["topics"]}
    assert counts["gpus"] == len(rows)
    table = [line for line in facts("gpus") if "?" in line and not line.startswith("gpus: ")]
    assert len(table) == len(rows)
    assert "told elsewhere: TDP W 900, by green-love" in "\n".join(facts("gpus"))  # ours is unknown: no range


def test_a_name_that_boards_of_other_memory_have_too_is_said(facts, refused):
    text = " ".join(" ".join(facts("gpus")).split())
    assert "a driver says 'NVIDIA GeForce RTX 3060' of boards of other memory, too" in text
    assert "RTX 3060 12GB" in refused("--gpu", "NVIDIA GeForce RTX 3060")


@pytest.mark.parametrize(
    ("name", "words", "row"),
    [
        ("NVIDIA H200", "this box: NVIDIA H200 = row H200 SXM", "H200 SXM <"),
        ("NVIDIA RTX A1000", "this box: NVIDIA RTX A1000, of which no facts are known", None),
        (None, "this box: no NVIDIA GPU that a run would use", None),
    ],
)
def test_this_box_s_gpu_is_named_and_marked(monkeypatch, tmp_path, facts, name, words, row):
    plug_in(monkeypatch, tmp_path, None if name is None else [Board(name, None)])
    assert words in facts()
    lines = facts("gpus")
    assert words in lines
    assert [line.split("  ")[0] for line in lines if " <" in line and not line.startswith("gpus: ")] == (
        [row] if row else []
    )
    assert "<: this box's" in lines[0] or not row
    (line,) = facts("--json")
    expected = name and {"name": name, "row": row and row.removesuffix(" <")}
    assert json.loads(line)["this_box"] == expected


def test_how_to_see_less_is_said_where_all_is_shown(facts):
    assert "--region CODE shortens it" in facts("carbon")[0]
    assert "shortens" not in facts("carbon", "--region", "DE")[3]
    assert "--gpu NAME shortens it" in facts("speed")[0]
    assert "--gpu NAME or --region CODE" in "\n".join(facts())


def test_texts_are_whole_where_there_is_room(facts):
    lines = facts("pue")
    assert sum("world data centres (Uptime survey) " in line for line in lines) == 5
    assert not any("..." in line for line in lines)
    cut = [line for line in facts("carbon") if "..." in line]
    assert all(len(line) > 100 for line in cut)
    assert not any("Bosnia and Herz..." in line for line in cut)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_table_without_rows_is_no_crash(monkeypatch, refused, facts, topic):
    empty = {name: replace(each, rows=lambda: ()) if name == topic else each for name, each in TOPICS.items()}
    monkeypatch.setattr(fact_topics, "TOPICS", empty)
    monkeypatch.setattr(facts_command, "TOPICS", empty)
    assert f"no row of {topic}" in refused(topic)
    assert any(line.split()[0] == topic for line in facts() if line)


def test_a_place_has_its_values_its_sources_and_its_zones(facts):
    lines = facts("--region", "SE")
    assert lines[0] == "place: SE, Sweden"
    assert lines[1].startswith("carbon: 35.8 (35.0 to 40.7) g CO2e/kWh, 2024; range over carbontracker 2024")
    text = "\n".join(lines)
    assert all(f"\nSE{n} " in text for n in "1234")
    used, of_electricity = (line.split() for line in lines if line.startswith("SE ") and ("*" in line or "res" in line))
    assert used[2:8] == ["35.82", "*", "35", "to", "40.7", "2024"]
    assert of_electricity[4] == "0.236"


def test_a_place_without_rows_of_a_topic_still_says_whose_value_it_has(facts):
    lines = facts("carbon", "--region", "US-CA")
    assert "no figure of its own: that of United States" in " ".join(lines)


def test_an_unknown_range_is_said(facts):
    assert "carbon: 430 (range unknown) g CO2e/kWh, year unknown" in "\n".join(facts("--region", "gcp:us-central1"))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["gpus", "--filter", "family=volta,memory_gb=16"], ["V100 PCIe 16GB", "V100 SXM2 16GB"]),
        (["gpus", "--filter", "name=T4", "--filter", "name=L4"], ["T4", "L4"]),
        (["gpus", "--filter", "tdp_w="], ["GH200 96GB", "GH200 144GB", "B300 SXM", *(f"TPU v{v}" for v in "234")]),
    ],
)
def test_filters_choose_rows(facts, arguments, names):
    found = [row["name"] for row in json.loads(facts(*arguments, "--json")[0])["gpus"]]
    assert found[: len(names)] == names
    assert len(found) < 12


def test_disagreements_are_the_rows_whose_sources_differ_by_a_fifth_or_more(facts):
    (line,) = facts("carbon", "--disagreements", "--json")
    rows = json.loads(line)["carbon"]
    assert {row["confidence"] for row in rows} == {"disputed"}
    assert len(rows) == sum(row.confidence == "disputed" for row in carbon_intensities())
    codes = {row["code"] for row in rows}
    assert "FR" in codes
    assert "DE" not in codes
    for row in rows:
        assert row["g_co2e_per_kwh_low"] < row["g_co2e_per_kwh_high"]
    assert sum(row["is_preferred"] for row in rows) == len(codes)


def test_what_is_marked_disputed_is_what_differs_by_a_fifth():
    """The mark in the table and the spread that is computed agree, for carbon and prices of electricity."""
    for topic in ("carbon", "electricity"):
        for shown in shown_rows(TOPICS[topic]):
            assert shown.is_disputed == (shown.row.confidence == "disputed"), shown


def test_all_disagreements_can_be_seen_at_once(facts):
    text = "\n".join(facts("--disagreements"))
    assert all(f"{topic}: " in text for topic in ("gpu_disputes", "cloud_prices", "carbon", "electricity"))
    assert "speed: " not in text
    (price,) = (line for line in text.splitlines() if line.startswith("AWS") and "*" in line)
    assert "5.12 to 12.29" in price


def test_json_has_every_column_and_unknown_is_null(facts):
    (line,) = facts("gpus", "--gpu", "T4", "--json")
    (row,) = json.loads(line)["gpus"]
    assert (row["fp16_tflops"], row["bf16_tflops"], row["tf32_tflops"]) == (65.0, None, None)
    assert row["source"]
    assert set(row) == {*type(gpus()[0]).__slots__, "is_preferred", "is_disputed", "told_elsewhere"}
    (line,) = facts("--json")
    assert {topic["topic"] for topic in json.loads(line)["topics"]} == set(TOPICS)
    (line,) = facts("--region", "DE", "--json")
    assert json.loads(line)["place"]["carbon"]["value"] == {"value": 344.13992, "low": 332.0, "high": 380.95}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "A100"], "no GPU is known by exactly the name 'A100'"),
        (["--region", "Germny"], "no region 'Germny'"),
        (["pue", "--gpu", "L4"], "facts pue are not of a GPU"),
        (["gpus", "--region", "DE"], "facts gpus are not of a place"),
        (["gpus", "--filter", "familly=volta"], "no column 'familly' to filter by"),
        (["gpus", "--filter", "family=voltaire"], "no row of gpus satisfies all flags"),
        (["gpus", "--filter", "tdp_w=low"], "tdp_w is a number, got 'low'"),
        (["--filter", "year=2024"], "--filter needs a topic"),
        (["--gpu", "L4", "--region", "DE"], "give --gpu or --region"),
        (["speed", "--disagreements"], "no row of speed satisfies all flags"),
    ],
)
def test_a_wrong_question_is_one_clear_error(refused, arguments, message):
    assert message in refused(*arguments)


def test_an_unknown_topic_is_a_wrong_command(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["facts", "cpus"])
    assert caught.value.code == 2
    assert "gpus" in capsys.readouterr().err
