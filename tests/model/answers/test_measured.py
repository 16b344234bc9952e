"""What was measured on this box, as answers look it up."""

from __future__ import annotations

from epochcast.model.answers.measured import measured_rows


def test_a_home_that_can_not_be_read_leaves_a_warning_and_no_rows(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path / ("a" * 300)))
    assert measured_rows() == []
    assert "answered without measured rows" in caplog.text


def test_a_box_without_runs_has_no_rows_and_no_warning(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    assert measured_rows() == []
    assert caplog.text == ""
