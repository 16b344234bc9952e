"""A model's three files change as one: killed anywhere, or beside other trainings, the old or the new model is read."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import zipfile

import pytest

from epochcast.model.time_model.card import card_path, card_sha256, markdown_path
from epochcast.model.time_model.card_text import markdown
from epochcast.model.time_model.saved_files import read_pair, save_model, waiting_path
from epochcast.model.time_model.saved_model import choose_model, load_model
from epochcast.paths import pretrained_dir
from tests.aggregate.averages.test_source import refuse_locks, refuse_new_files
from tests.support.faults import exit_code, in_child, is_failed_at, is_killed_at

pytestmark = pytest.mark.usefixtures("fast_disk")

PRETRAINED = pretrained_dir() / "a100.keras"
CARD = json.loads(card_path(PRETRAINED).read_text(encoding="utf-8"))


def model(tmp_path, seed):
    """The bytes of a network of its own, with its card."""
    file = tmp_path / f"network-{seed}"
    shutil.copy(PRETRAINED, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = str(seed).encode()
    card = {**CARD, "seed": seed, "keras_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return file.read_bytes(), {**card, "card_sha256": card_sha256(card)}


@pytest.fixture
def models(tmp_path):
    return [model(tmp_path, seed) for seed in range(1, 5)]


def assert_is_whole(path, allowed):
    """The model at `path` is one of those allowed, in all of its files."""
    saved = load_model(path)
    assert saved.card in [card for _, card in allowed]
    assert (path.read_bytes(), saved.card) in allowed
    assert markdown_path(path).read_text(encoding="utf-8") == markdown(saved.card, path.stem)
    return saved.card["seed"]


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])  # of the first calls a second follows
@pytest.mark.parametrize("interrupted", [is_killed_at, is_failed_at])
def test_killed_at_any_call_the_old_or_the_new_model_is_read(tmp_path, models, interrupted, every):
    old, new, newer, last = models
    seen = set()
    for n in itertools.count(1):
        path = tmp_path / str(n) / "box.keras"
        save_model(path, *old)
        is_over = not interrupted(n, lambda path=path: save_model(path, *new))
        again = path.with_name("again") / path.name
        if n % every == 0:
            shutil.copytree(path.parent, again.parent)
        seen.add(assert_is_whole(path, [old, new]))
        if n % every == 0:
            interrupted(1 + 5 * n % 31, lambda again=again: save_model(again, *newer))  # and the next one, somewhere
            assert_is_whole(again, [old, new, newer])
            save_model(again, *last)
            assert_is_whole(again, [last])
        if is_over:
            break
    assert n > 20
    assert seen == {1, 2}


def test_killed_at_any_call_a_first_model_is_there_or_not_yet(tmp_path, models):
    for n in itertools.count(1):
        path = tmp_path / str(n) / "box.keras"
        is_over = not is_killed_at(n, lambda path=path: save_model(path, *models[0]))
        if card_path(path).exists():
            assert_is_whole(path, models[:1])
        else:
            with pytest.raises(FileNotFoundError):
                load_model(path)
        save_model(path, *models[1])
        assert_is_whole(path, models[1:2])
        if is_over:
            return


def test_a_model_whose_network_still_waits_is_found_among_others(tmp_path, models, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    data, card = models[0]
    monkeypatch.setattr("epochcast.gpus.lookup.box_device_names", lambda: [card["conditions"]["device_name"]])
    path = tmp_path / "results" / "models" / "box.keras"
    save_model(path, data, card)
    path.rename(waiting_path(path))
    assert choose_model().model.path == path
    assert_is_whole(path, models[:1])


@pytest.mark.parametrize("fault", [refuse_new_files, refuse_locks])
def test_who_may_not_write_reads_a_waiting_network_where_it_is(tmp_path, models, monkeypatch, fault):
    path = tmp_path / "box.keras"
    save_model(path, *models[0])
    waiting_path(path).write_bytes(models[1][0])
    card_path(path).write_text(json.dumps(models[1][1]))
    with monkeypatch.context() as patch:
        fault(patch)
        assert load_model(path).card["seed"] == 2
        assert load_model(path).card["seed"] == 2
    assert_is_whole(path, models[1:2])


def test_of_many_trainings_at_once_one_stays_and_readers_meet_none_in_between(tmp_path, models):
    path = tmp_path / "box.keras"
    save_model(path, *models[0])

    def read():
        for _ in range(60):
            assert read_pair(path) in models

    def write(own):
        for _ in range(4):
            save_model(path, *own)

    children = [in_child(lambda own=own: write(own)) for own in models] + [in_child(read) for _ in range(2)]
    assert [exit_code(child) for child in children] == [0] * 6
    assert_is_whole(path, models)
    assert not waiting_path(path).exists()


def test_without_locks_a_model_is_saved_with_a_word(tmp_path, models, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        refuse_locks(patch)
        save_model(tmp_path / "box.keras", *models[0])
    assert "no locks: let one command at a time train there" in caplog.text
    assert_is_whole(tmp_path / "box.keras", models[:1])


# --- what stands in the way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["box.keras", "box.json", "box.md"])
def test_a_file_of_the_user_s_is_never_replaced(tmp_path, models, name):
    content = {"box.keras": b"PK\x03\x04 a network of mine", "box.json": b'{"mine": 1}', "box.md": b"# notes\n"}[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="not replaced") as caught:
        save_model(tmp_path / "box.keras", *models[0])
    assert str(tmp_path / name) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(("box", ".box"))] == [name]
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize("content", [None, b"", b'{"schema_version": 2, ', b"{}", b"[]", b"\xff\xfe"])
def test_train_it_again_mends_a_model_whose_card_is_broken(tmp_path, models, content):
    path = tmp_path / "box.keras"
    save_model(path, *models[0])
    card_path(path).unlink()
    if content is not None:
        card_path(path).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=r"[Tt]rain (it|the model) again"):
        load_model(path)
    save_model(path, *models[1])
    assert_is_whole(path, models[1:2])


def test_train_it_again_mends_a_network_that_is_not_the_card_s(tmp_path, models):
    path = tmp_path / "box.keras"
    save_model(path, *models[0])
    path.write_bytes(models[1][0])
    with pytest.raises(ValueError, match=r"SHA-256 differs\)\. Train it again"):
        load_model(path)
    save_model(path, *models[1])
    assert_is_whole(path, models[1:2])
