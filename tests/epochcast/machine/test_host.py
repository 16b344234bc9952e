"""What Linux tells of a box, from made-up trees of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from epochcast.machine import host
from epochcast.machine.host import (
    boot_time_utc,
    clock_source,
    container,
    cpu_governor,
    cpu_max_mhz,
    cpu_mhz,
    cpu_quota_cores,
    memory_bytes,
    os_name,
    usable_cores,
    virtual_machine,
)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A function that puts files below a root of its own, which is all that `epochcast.machine.host` sees."""
    monkeypatch.setattr(host, "ROOT", tmp_path)
    monkeypatch.setattr(host, "usable_cores", lambda: {0, 2})
    for name in ("KUBERNETES_SERVICE_HOST", "container"):
        monkeypatch.delenv(name, raising=False)

    def put(files: dict[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return put


def test_a_box_that_tells_nothing_is_unknown_throughout(tree):
    queries = (cpu_mhz, cpu_max_mhz, cpu_governor, clock_source, cpu_quota_cores, boot_time_utc, os_name, container)
    assert [query() for query in queries] == [None] * len(queries)
    assert virtual_machine() is None
    assert memory_bytes() == (None, None)


def test_clock_and_governor_are_of_the_cores_that_may_be_used(tree):
    lines = (
        f"processor\t: {core}\nmodel name\t: X\ncpu MHz\t\t: {mhz}\n\n" for core, mhz in enumerate((1000, 9, 3000))
    )
    cpu = "sys/devices/system/cpu"
    tree({"proc/cpuinfo": "".join(lines), f"{cpu}/cpu0/cpufreq/cpuinfo_max_freq": "3500000\n"})
    for core, governor in enumerate(("performance", "userspace", "powersave")):
        tree({f"{cpu}/cpu{core}/cpufreq/scaling_governor": f"{governor}\n"})
    assert cpu_mhz() == 2000
    assert cpu_max_mhz() == 3500
    assert cpu_governor() == "performance;powersave"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),  # seen from a container
        (
            {
                "proc/self/cgroup": "4:memory:/x\n2:cpu,cpuacct:/docker/1f\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",  # its group above is not mounted in it
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "150000\n"}, None),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, None),
    ],
    ids=["v2", "v2-unlimited", "v2-above", "v2-container", "v1", "v1-unlimited", "broken", "no-group"],
)
def test_the_processor_time_granted_is_the_least_of_all_groups_above(tree, files, cores):
    tree(files)
    assert cpu_quota_cores() == cores


def test_memory_is_what_the_control_group_leaves_and_read_files_give_way(tree):
    tree({"proc/meminfo": "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n"})
    assert memory_bytes() == (16 << 30, 8 << 30)
    group = "sys/fs/cgroup/a"
    tree({"proc/self/cgroup": "0::/a\n", f"{group}/memory.max": str(4 << 30), f"{group}/memory.current": str(3 << 30)})
    assert memory_bytes() == (4 << 30, 1 << 30)
    tree({f"{group}/memory.stat": f"anon 1\ninactive_file {1 << 29}\n"})
    assert memory_bytes() == (4 << 30, 3 << 29)
    tree({f"{group}/memory.max": "max\n"})
    assert memory_bytes() == (16 << 30, 8 << 30)


def test_an_old_kernel_s_way_to_say_no_limit_is_no_limit(tree):
    tree({"proc/meminfo": "MemTotal:  1024 kB\nMemAvailable: 512 kB\n", "proc/self/cgroup": "4:memory:/\n"})
    tree({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert memory_bytes() == (1 << 20, 1 << 19)


def test_what_stands_between_us_and_the_machine_is_named(tree, monkeypatch):
    tree(
        {
            "proc/stat": "cpu  1 2 3\nbtime 1700000000\n",
            "etc/os-release": 'NAME="U"\nPRETTY_NAME="Ubuntu 24.04.2 LTS"\n',
        }
    )
    assert boot_time_utc() == "2023-11-14T22:13:20+00:00"
    assert os_name() == "Ubuntu 24.04.2 LTS"
    tree({"proc/cpuinfo": "flags\t\t: fpu vme nohypervisor\n"})
    assert virtual_machine() is None
    tree({"proc/cpuinfo": "flags\t\t: fpu hypervisor vme\n"})
    assert virtual_machine() == ""
    tree({"sys/class/dmi/id/sys_vendor": "Google\n", "sys/class/dmi/id/product_name": "Google Compute Engine\n"})
    assert virtual_machine() == "Google Google Compute Engine"
    monkeypatch.setenv("container", "lxc")
    assert container() == "lxc"
    tree({"run/systemd/container": "systemd-nspawn\n"})
    assert container() == "systemd-nspawn"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert container() == "kubernetes"
    tree({".dockerenv": ""})
    assert container() == "docker"


def test_files_that_may_not_be_read_are_as_if_they_were_not_there(tree, tmp_path):
    (tmp_path / "proc/meminfo").mkdir(parents=True)  # reading a folder fails for every user, root too
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/cgroup").mkdir()
    assert memory_bytes() == (None, None)
    assert cpu_quota_cores() is None


def test_this_box_has_cores_and_memory():
    assert len(usable_cores()) >= 1
    total, available = memory_bytes()
    if Path("/proc/meminfo").exists():
        assert total is not None and available is not None
        assert 0 < available <= total
