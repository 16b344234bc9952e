"""From result repositories to records: all sources give the same, each file is counted, and a stopped run goes on."""

from __future__ import annotations

import io
import lzma
import shutil
import subprocess
import tarfile
from collections import Counter

import pytest

from benchmarks.mlperf.bench_extract import COUNTED_ELSEWHERE
from epochcast.mlperf.logs.extraction import OTHER_FILE, extract, extracted
from epochcast.mlperf.logs.joining import ABSENT, DUPLICATE
from epochcast.mlperf.logs.journal import journal_path
from epochcast.mlperf.logs.sources import open_source
from epochcast.mlperf.records import read_records
from epochcast.output.progress import quiet
from tests.support.mlperf.repositories import a_log, a_system, write_repository

SILENT = quiet("")


def git(folder, *arguments):
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
    return subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    ).stdout


def committed(folder):
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "results")
    return folder


def tar_of(folder, path):
    with tarfile.open(path, "w:xz" if path.suffix == ".xz" else "w") as tar:
        tar.add(folder, arcname=".")
    return path


def table(records):
    """Records without what depends on how a source is named."""
    return [(r.entry, r.time_sec, r.sha256, r.device, r.n_accelerators, r.status, r.division) for r in records]


# --- published logs ---------------------------------------------------------------------------------------------------


def test_a_folder_a_tar_and_a_clone_of_published_logs_give_the_same_records(raw_logs, tmp_path):
    folder = extracted(open_source(raw_logs), None, SILENT)
    packed = extracted(open_source(tar_of(raw_logs, tmp_path / "results.tar.xz")), None, SILENT)
    clones = tmp_path / "clones"
    for name in sorted(path.name for path in raw_logs.iterdir() if path.is_dir()):
        shutil.copytree(raw_logs / name, clones / f"training_results_{name}")
        committed(clones / f"training_results_{name}")
        for path in (clones / f"training_results_{name}").iterdir():
            if path.name != ".git":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    cloned = extracted(open_source(clones), None, SILENT)
    assert len(folder.records) > 75
    assert packed.records == folder.records
    assert table(cloned.records) == table(folder.records)
    assert folder.rounds == packed.rounds == cloned.rounds
    assert sum(each.logs for each in folder.rounds) == 87
    assert len(folder.rounds) == 12


def test_published_logs_have_the_values_that_their_irregularities_hide(raw_logs):
    found = {record.log: record for record in extracted(open_source(raw_logs), None, SILENT).records}

    def of(path):
        return next(record for log, record in found.items() if log.startswith(path))

    tpu = of("v0.5/google/research_v3.32/resnet-tpuv3-32")
    assert (tpu.device, tpu.n_accelerators, tpu.benchmark) == ("TPU v3", 16, "resnet")  # 32 cores
    pod = of("v0.6/Google/results/tpu-v3-1024/")
    assert (pod.device, pod.n_accelerators) == ("TPU v3", 512)
    ncf = of("v0.5/intel/intel_ncf_submission")
    assert (ncf.device, ncf.n_accelerators, ncf.benchmark) == ("CPU", 2, "ncf")
    fujitsu = of("v0.6/Fujitsu/results/abci_2048xV100_mxnet")
    assert (fujitsu.device, fujitsu.n_accelerators, fujitsu.division) == ("V100 SXM2 16GB", 2048, "open")
    dgx2 = of("v0.6/NVIDIA/results/dgx2_ngc19.05_mxnet")
    assert (dgx2.device, dgx2.n_accelerators) == ("V100 SXM3 32GB", 16)
    dell = of("v0.7/DellEMC/results/2xC4140")
    assert (dell.n_nodes, dell.n_accelerators) == (2, 8)
    assert of("v0.7/Alibaba/results/v100-1280").n_accelerators is None  # no count is taken from a name
    assert of("v1.0/Habana/results/SYS-420GH-TNGR/resnet/bert").benchmark == "bert"
    statuses = Counter(record.status for record in found.values())
    assert statuses["aborted"] >= 10
    assert not any(record.is_usable for record in found.values() if record.status != "success")


@pytest.mark.slow
def test_every_round_has_as_many_usable_logs_as_were_counted_elsewhere(reference_data, tmp_path):
    out = tmp_path / "records.csv"
    found = extract(reference_data / "mlperf" / "training_results.tar.xz", out, None, SILENT)
    assert {each.round: each.usable for each in found.rounds} == pytest.approx(COUNTED_ELSEWHERE, rel=0.005)
    assert sum(each.logs for each in found.rounds) == 20_137
    n_timed = sum(each.timed for each in found.rounds)
    assert n_timed == len(found.records) + found.unused[DUPLICATE]
    faults = sum(n for reason, n in found.unused.items() if reason not in (DUPLICATE, OTHER_FILE))
    assert n_timed + faults == 20_137  # no log is lost
    assert read_records(out) == list(found.records)
    (alibaba,) = {r.n_accelerators for r in found.records if (r.submitter, r.system) == ("Alibaba", "a100-8")}
    assert alibaba == 8  # of the submitter's only description of A100
    assert len({record.sha256 for record in found.records}) == len(found.records)
    assert len({record.device for record in found.records} - {None}) >= 40
    assert len({record.benchmark for record in found.records if record.is_usable}) == 18


# --- planted repositories ---------------------------------------------------------------------------------------------


def test_the_same_log_handed_in_again_is_dropped_and_counted(tmp_path):
    write_repository(tmp_path / "v2.0", logs=[a_log(0), a_log(1)])
    write_repository(tmp_path / "v2.1", logs=[a_log(1), a_log(2)])
    found = extracted(open_source(tmp_path), None, SILENT)
    assert [record.log.split("/")[0] for record in found.records] == [
        "v2.0",
        "v2.0",
        "v2.1",
    ]  # the earlier round's stays
    assert found.unused == {DUPLICATE: 1}
    assert [(each.round, each.timed, each.duplicates, each.entries) for each in found.rounds] == [
        ("2.0", 2, 0, 1),
        ("2.1", 2, 1, 1),
    ]


def test_every_file_is_counted_with_a_reason(tmp_path):
    logs = [a_log(0), a_log(1, stop=None), a_log(2, status="aborted"), "", a_log(3, stop=-5)]
    results = write_repository(tmp_path / "v2.0", logs=logs, system=None)
    (tmp_path / "v2.0" / "README.md").write_text("results")
    (results / "notes.txt").write_text("a note of the submitter")
    (tmp_path / "v2.0" / "ACME" / "systems").mkdir()
    (tmp_path / "v2.0" / "ACME" / "systems" / "box.json").write_text("no JSON")
    (results / "link.txt").symlink_to(results / "result_0.txt")
    found = extracted(open_source(tmp_path), None, SILENT)
    assert len(found.records) == 2
    assert found.not_usable == {"no description of its system": 1, "aborted": 1}
    assert found.unused == {
        "no line of MLPerf's logging": 2,
        "no run_stop that can be read": 1,
        "run_stop is not after run_start": 1,
        "neither a log nor the description of a system": 1,
        "description of a system that can't be read": 1,
    }


def test_devices_that_the_facts_lack_are_counted_by_their_spelling(tmp_path):
    write_repository(tmp_path / "v6.0", [a_log(0), a_log(1)], a_system(accelerator_model_name="NVIDIA Z1000"))
    write_repository(tmp_path / "v6.1", [a_log(2)])
    found = extracted(open_source(tmp_path), None, SILENT)
    assert found.unknown_devices == {"NVIDIA Z1000": 2}
    assert [(r.device, r.is_usable, r.n_accelerators) for r in found.records[:1]] == [(None, True, 16)]


def test_a_run_is_of_the_open_division_where_either_says_so(tmp_path):
    write_repository(tmp_path / "v2.0", logs=[a_log(0, division="closed")], system=a_system(division="open"))
    write_repository(tmp_path / "v2.1", logs=[a_log(1, division="open")], system=a_system(division="closed"))
    write_repository(tmp_path / "v3.0", logs=[a_log(2, division=None)], system=a_system(division="closed"))
    write_repository(tmp_path / "v3.1", logs=[a_log(3, division=None)], system=a_system(division=None))
    found = extracted(open_source(tmp_path), None, SILENT)
    assert [record.division for record in found.records] == ["open", "open", "closed", None]
    assert all(record.is_usable for record in found.records)


def test_a_clone_that_lacks_a_log_counts_it_as_absent(tmp_path):
    folder = tmp_path / "training_results_v4.0"
    write_repository(folder, logs=[a_log(0), a_log(1)])
    committed(folder)
    name = git(folder, "rev-parse", "HEAD:ACME/results/box/bert/result_1.txt").strip()
    (folder / ".git" / "objects" / name[:2] / name[2:]).unlink()
    found = extracted(open_source(folder), None, SILENT)
    assert len(found.records) == 1
    assert found.unused == {ABSENT: 1}
    assert found.rounds[0].absent == 1


def test_a_clone_without_contents_counts_its_logs_as_absent_and_fetches_nothing(tmp_path):
    origin = tmp_path / "training_results_v4.0"
    write_repository(origin, logs=[a_log(0), a_log(1)])
    git(committed(origin), "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{origin}", "partial_v4.0")
    found = extracted(open_source(tmp_path / "partial_v4.0"), None, SILENT)
    assert found.records == ()
    assert found.unused == {ABSENT: 3}  # two logs and the description of their system
    assert [(each.round, each.logs, each.absent) for each in found.rounds] == [("4.0", 2, 2)]
    assert f"no log in it gives a row: {ABSENT} (3)." in refused(tmp_path / "partial_v4.0", tmp_path)


def test_a_clone_of_another_name_is_of_the_round_that_its_origin_names(tmp_path):
    write_repository(tmp_path / "clone", logs=[a_log(0)])
    committed(tmp_path / "clone")
    with pytest.raises(ValueError, match=r"which round it is of is not known.*--round 4\.0"):
        extracted(open_source(tmp_path / "clone"), None, SILENT)
    assert extracted(open_source(tmp_path / "clone"), "5.1", SILENT).rounds[0].round == "5.1"
    git(tmp_path / "clone", "remote", "add", "origin", "https://example.org/mlcommons/training_results_v4.1.git")
    assert extracted(open_source(tmp_path / "clone"), None, SILENT).rounds[0].round == "4.1"


def test_a_bare_clone_is_read_too(tmp_path):
    write_repository(tmp_path / "training_results_v4.0", logs=[a_log(0)])
    committed(tmp_path / "training_results_v4.0")
    git(tmp_path, "clone", "-q", "--bare", str(tmp_path / "training_results_v4.0"))
    found = extracted(open_source(tmp_path / "training_results_v4.0.git"), None, SILENT)
    assert (found.rounds[0].round, len(found.records)) == ("4.0", 1)


# --- stopped and begun again ------------------------------------------------------------------------------------------


class StopError(Exception):
    pass


def stopping_at(share):
    def say(done):
        if done >= share:
            raise StopError

    return say


@pytest.mark.parametrize("kind", ["folder", "tar", "clone"])
def test_a_stopped_extraction_goes_on_where_it_was_and_ends_with_the_same_table(tmp_path, kind):
    source = tmp_path / "training_results_v2.0"
    write_repository(source, logs=[a_log(i) for i in range(20)])
    if kind == "clone":
        committed(source)
    if kind == "tar":
        source = tar_of(tmp_path, tmp_path / "all.tar")
    out, whole = tmp_path / "out" / "records.csv", tmp_path / "whole" / "records.csv"
    extract(source, whole, None, SILENT)
    with pytest.raises(StopError):
        extract(source, out, None, stopping_at(0.5))
    assert not out.exists()
    assert journal_path(out).exists()
    again = extract(source, out, None, SILENT)
    assert 5 < again.n_known < 20
    assert out.read_bytes() == whole.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["records.csv"]


def test_what_was_read_of_a_log_that_changed_since_or_of_another_source_is_read_again(tmp_path):
    source, out = tmp_path / "v2.0", tmp_path / "records.csv"
    results = write_repository(source, logs=[a_log(i) for i in range(20)])
    with pytest.raises(StopError):
        extract(source, out, None, stopping_at(0.9))
    (results / "result_0.txt").write_text(a_log(0, stop=99.5))
    with journal_path(out).open("a") as file:
        file.write('{"log": "cut sho')
    found = extract(source, out, None, SILENT)
    assert max(record.time_sec for record in found.records) == 99.5
    with pytest.raises(StopError):
        extract(source, out, None, stopping_at(0.9))
    write_repository(tmp_path / "v3.0", logs=[a_log(30)])
    assert extract(tmp_path / "v3.0", out, None, SILENT).n_known == 0


def test_a_file_that_is_no_journal_is_left_alone(tmp_path):
    write_repository(tmp_path / "v2.0", logs=[a_log(0)])
    out = tmp_path / "records.csv"
    journal_path(out).write_text("my notes\n")
    with pytest.raises(ValueError, match=r"records\.csv\.part is no journal of an extraction and is not replaced"):
        extract(tmp_path / "v2.0", out, None, SILENT)
    assert journal_path(out).read_text() == "my notes\n"


# --- sources that are none --------------------------------------------------------------------------------------------


def refused(source, tmp_path):
    """The message of an extraction that fails; nothing may be written then."""
    out = tmp_path / "out" / "records.csv"
    with pytest.raises(ValueError) as caught:
        extract(source, out, None, SILENT)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []
    return str(caught.value)


def test_a_folder_without_logs_is_refused(tmp_path):
    (tmp_path / "v4.0").mkdir()
    (tmp_path / "v4.0" / "README.md").write_text("nothing")
    assert "no result log in it. Logs are looked for as <round>/" in refused(tmp_path / "v4.0", tmp_path)


def test_a_clone_without_logs_and_one_without_a_commit_are_refused(tmp_path):
    (tmp_path / "v4.0").mkdir()
    git(tmp_path / "v4.0", "init", "-q")
    assert "git ls-tree failed: fatal: Not a valid object name HEAD" in refused(tmp_path / "v4.0", tmp_path)
    (tmp_path / "v4.0" / "README.md").write_text("nothing")
    committed(tmp_path / "v4.0")
    assert "no result log in it at the commit of its HEAD" in refused(tmp_path / "v4.0", tmp_path)


def test_without_git_a_clone_is_refused(tmp_path, monkeypatch):
    write_repository(tmp_path / "v4.0", logs=[a_log(0)])
    committed(tmp_path / "v4.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "a git clone, and git is not installed" in refused(tmp_path / "v4.0", tmp_path)


def test_a_file_that_is_no_tar_is_refused(tmp_path):
    (tmp_path / "records.zip").write_bytes(b"PK\x03\x04" + b"\0" * 2000)
    assert "neither a folder nor a tar" in refused(tmp_path / "records.zip", tmp_path)


@pytest.mark.parametrize("suffix", ["tar", "tar.xz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_tar_that_is_cut_short_is_refused(tmp_path, suffix, share):
    write_repository(tmp_path / "a" / "v2.0", logs=[a_log(i, noise=3000) for i in range(20)])
    whole = tar_of(tmp_path / "a", tmp_path / f"all.{suffix}").read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole[: int(share * len(whole))])
    assert "the tar is cut short or damaged" in refused(cut, tmp_path)


def test_a_tar_that_is_cut_between_two_files_is_refused(tmp_path):
    write_repository(tmp_path / "a" / "v2.0", logs=[a_log(i) for i in range(5)])
    with tarfile.open(tar_of(tmp_path / "a", tmp_path / "all.tar")) as tar:
        last = [member for member in tar if member.isreg()][-1]
    cut = tmp_path / "cut.tar"
    cut.write_bytes((tmp_path / "all.tar").read_bytes()[: last.offset])
    assert "its end is missing" in refused(cut, tmp_path)


def test_a_header_that_claims_a_gigabyte_is_refused(tmp_path):
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    (tmp_path / "bomb.tar").write_bytes(header.tobuf() + b"x" * 5000)
    assert "neither a folder nor a tar" in refused(tmp_path / "bomb.tar", tmp_path)


def test_a_table_of_measurements_is_not_replaced(tmp_path):
    write_repository(tmp_path / "v2.0", logs=[a_log(0)])
    runs = tmp_path / "runs.csv"
    runs.write_text("timestamp_utc,tf_version,depth\n1,2,3\n")
    with pytest.raises(ValueError, match="is a table of runs, and is not replaced by a table of MLPerf runs"):
        extract(tmp_path / "v2.0", runs, None, SILENT)
    assert not journal_path(runs).exists()


@pytest.mark.slow
def test_two_gigabytes_of_noise_take_no_memory_and_are_one_sentence(tmp_path):
    import tracemalloc

    folder = tmp_path / "v2.0" / "ACME" / "results" / "box" / "bert"
    folder.mkdir(parents=True)
    with (folder / "result_0.txt").open("wb") as file:
        file.truncate(2 << 30)  # a sparse file
    tracemalloc.start()
    said = refused(tmp_path / "v2.0", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "no log in it gives a row: no line of MLPerf's logging (1)." in said
    assert peak < 32 << 20


def test_a_compressed_tar_of_zeros_takes_no_memory(tmp_path):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("v2.0/ACME/results/box/bert/result_0.txt")
        member.size = 64 << 20
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    (tmp_path / "zeros.tar.xz").write_bytes(lzma.compress(data.getvalue(), preset=0))
    found = extracted(open_source(tmp_path / "zeros.tar.xz"), None, SILENT)
    assert found.unused == {"no line of MLPerf's logging": 1}
