import os

import pytest

from epochcast.energy.rapl import open_rapl

RANGE_UJ = 262_143_328_850


def make_zone(root, zone, name, energy_uj):
    folder = root / zone
    folder.mkdir()
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"


@pytest.fixture
def packages(tmp_path):
    """The totals of two packages, beside zones that would count the same energy again."""
    (tmp_path / "intel-rapl").mkdir()
    totals = [make_zone(tmp_path, f"intel-rapl:{n}", f"package-{n}", 5_000_000) for n in range(2)]
    make_zone(tmp_path, "intel-rapl:0:0", "core", 1)
    make_zone(tmp_path, "intel-rapl:0:1", "dram", 1)
    make_zone(tmp_path, "intel-rapl:2", "psys", 1)
    make_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1)
    return tmp_path, totals


def test_energy_is_the_sum_of_packages_and_of_nothing_that_lies_within_them(packages):
    root, totals = packages
    rapl = open_rapl(root)
    assert rapl.energy_j() == 0.0
    totals[0].write_text(f"{5_000_000 + 30_000_000}\n")
    totals[1].write_text(f"{5_000_000 + 12_000_000}\n")
    for zone in ("intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:2", "intel-rapl-mmio:0"):
        (root / zone / "energy_uj").write_text("900000000\n")
    assert rapl.energy_j() == pytest.approx(42.0)
    rapl.close()


def test_total_that_ran_around_goes_on(packages):
    root, totals = packages
    totals[0].write_text(f"{RANGE_UJ - 2_000_000}\n")
    rapl = open_rapl(root)
    totals[0].write_text("3000000\n")
    assert rapl.energy_j() == pytest.approx(5.0)
    totals[0].write_text("4000000\n")
    assert rapl.energy_j() == pytest.approx(6.0)  # once around is counted once
    rapl.close()


@pytest.mark.parametrize("now_uj", [0, 65_000_000, RANGE_UJ // 2, RANGE_UJ + 1, -1, "9" * 400])
def test_total_that_began_anew_or_jumped_is_unknown_from_then_on(packages, now_uj):
    root, totals = packages
    totals[0].write_text(f"{RANGE_UJ // 4}\n")
    seconds = [0.0]
    rapl = open_rapl(root, lambda: seconds[0])
    for text in (now_uj, RANGE_UJ // 4 + 1_000_000):
        seconds[0] += 0.5
        totals[0].write_text(f"{text}\n")
        assert rapl.energy_j() is None
    rapl.close()


def test_total_that_was_not_read_for_so_long_that_it_may_have_run_around_is_unknown(packages):
    root, _ = packages
    seconds = [0.0]
    rapl = open_rapl(root, lambda: seconds[0])
    seconds[0] = 100.0
    assert rapl.energy_j() == 0.0
    seconds[0] = 600.0
    assert rapl.energy_j() is None
    rapl.close()


def test_no_permission_for_one_package_is_no_reading_and_no_open_file(packages, monkeypatch):
    root, totals = packages

    def refuse(path, flags):
        if str(path) == str(totals[1]):
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, flags)

    real_open = os.open
    monkeypatch.setattr(os, "open", refuse)  # root, as in containers, may read any file: chmod refuses nothing
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    assert open_rapl(root) is None
    after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
    assert after == before


def test_package_that_becomes_unreadable_is_unknown_and_not_zero(packages):
    root, totals = packages
    rapl = open_rapl(root)
    totals[1].write_text("no number\n")
    assert rapl.energy_j() is None
    rapl.close()


def test_no_packages_at_all(tmp_path):
    assert open_rapl(tmp_path / "missing") is None
    make_zone(tmp_path, "intel-rapl:0", "psys", 1)
    assert open_rapl(tmp_path) is None
