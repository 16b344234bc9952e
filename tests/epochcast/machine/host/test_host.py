"""What is known of a box: psutil is faked at its edge, and what it does not know stands in made-up trees of files."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import psutil
import pytest

from epochcast.machine.host import host
from epochcast.machine.host.host import (
    boot_time_utc,
    clock_source,
    container,
    cpu_governor,
    cpu_max_mhz,
    cpu_mhz,
    cpu_quota_cores,
    memory_bytes,
    of_usable_cores,
    os_name,
    usable_cores,
    virtual_machine,
)
from tests.support.machines.made_up_host import memory_is

# psutil's own errors, those of a system without /proc or that hides it, and those of lines that a sandbox makes up
ERRORS = [
    psutil.AccessDenied(1),
    psutil.NoSuchProcess(1),
    psutil.ZombieProcess(1),
    FileNotFoundError(2, "No such file or directory", "/proc/stat"),
    PermissionError(13, "Permission denied", "/proc/stat"),
    NotImplementedError("can't find current frequency file"),
    RuntimeError("line 'btime' not found in /proc/stat"),
    KeyError("MemTotal:"),
    IndexError("list index out of range"),
    ValueError("invalid literal for int()"),
    TypeError("missing 1 required positional argument"),
]


def raising(error):
    def ask(*args, **kwargs):
        raise error

    return ask


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A function that puts files below a root that is all `epochcast.machine.host.host` sees; psutil knows nothing."""
    for name in ("cpu_freq", "virtual_memory", "boot_time"):
        monkeypatch.setattr(psutil, name, raising(FileNotFoundError(2, "none", "/proc/stat")))
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


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_psutil_raises_is_unknown_and_no_error(tree, monkeypatch, error):
    for name in ("cpu_freq", "virtual_memory", "boot_time"):
        monkeypatch.setattr(psutil, name, raising(error))
    assert (cpu_mhz(), memory_bytes(), boot_time_utc()) == (None, (None, None), None)


def test_without_proc_the_real_psutil_leaves_it_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "not mounted"))
    if psutil.LINUX:
        assert (memory_bytes(), boot_time_utc()) == ((None, None), None)
    monkeypatch.delattr(psutil, "cpu_freq")  # as on systems that have no clock to report
    assert cpu_mhz() is None


@pytest.mark.parametrize(("total", "available", "known"), [(0, 0, (None, None)), (8, 0, (8, None)), (0, 8, (None, 8))])
def test_psutil_s_zero_is_unknown(tree, monkeypatch, total, available, known):
    memory_is(total, available, monkeypatch)
    monkeypatch.setattr(psutil, "cpu_freq", lambda percpu: [SimpleNamespace(current=0.0)] * 2)
    assert memory_bytes() == known
    assert cpu_mhz() is None


def test_statistics_that_psutil_lacks_are_no_warning(tree, tmp_path, monkeypatch):
    """A sandbox's meminfo with the least that there can be, read by psutil itself."""
    tree({"proc/meminfo": "MemTotal: 2048 kB\nMemFree: 512 kB\nMemAvailable: 1024 kB\n"})
    monkeypatch.undo()
    if not psutil.LINUX:
        pytest.skip("psutil reads no meminfo")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    monkeypatch.setattr(host, "ROOT", tmp_path)
    assert memory_bytes() == (2 << 20, 1 << 20)


@pytest.mark.parametrize(
    ("online", "each", "kept"),
    [
        (None, "ab", "ab"),  # one for each core that may be used, whatever their numbers
        (None, "abc", "ac"),
        ("0-2", "abc", "ac"),
        ("0,2-4", "abcd", "ab"),  # core 1 is off
        ("0-1,3", "abc", "a"),
    ],
)
def test_a_core_is_known_by_its_number_though_psutil_lists_those_alone_that_are_on(tree, online, each, kept):
    if online is not None:
        tree({"sys/devices/system/cpu/online": f"{online}\n"})
    assert "".join(of_usable_cores(each)) == kept


@pytest.mark.parametrize("online", ["0-3", "0-", "none"])
def test_values_that_belong_to_no_core_are_refused(tree, online):
    tree({"sys/devices/system/cpu/online": f"{online}\n"})
    with pytest.raises(ValueError):
        of_usable_cores("abc")


def test_clock_and_governor_are_of_the_cores_that_may_be_used(tree, monkeypatch):
    clocks = [SimpleNamespace(current=mhz) for mhz in (1000.0, 9.0, 3000.0)]
    monkeypatch.setattr(psutil, "cpu_freq", lambda percpu: clocks if percpu else clocks[0])
    cpu = "sys/devices/system/cpu"
    tree({f"{cpu}/cpu0/cpufreq/cpuinfo_max_freq": "3500000\n"})
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


def test_memory_is_what_the_control_group_leaves_and_read_files_give_way(tree, monkeypatch):
    memory_is(16 << 30, 8 << 30, monkeypatch)
    assert memory_bytes() == (16 << 30, 8 << 30)
    group = "sys/fs/cgroup/a"
    tree({"proc/self/cgroup": "0::/a\n", f"{group}/memory.max": str(4 << 30), f"{group}/memory.current": str(3 << 30)})
    assert memory_bytes() == (4 << 30, 1 << 30)
    tree({f"{group}/memory.stat": f"anon 1\ninactive_file {1 << 29}\n"})
    assert memory_bytes() == (4 << 30, 3 << 29)
    tree({f"{group}/memory.max": "max\n"})
    assert memory_bytes() == (16 << 30, 8 << 30)


def test_an_old_kernel_s_way_to_say_no_limit_is_no_limit(tree, monkeypatch):
    memory_is(1 << 20, 1 << 19, monkeypatch)
    tree({"proc/self/cgroup": "4:memory:/\n"})
    tree({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert memory_bytes() == (1 << 20, 1 << 19)


def test_what_stands_between_us_and_the_machine_is_named(tree, monkeypatch):
    tree(
        {
            "etc/os-release": 'NAME="U"\nPRETTY_NAME="Ubuntu 24.04.2 LTS"\n',
        }
    )
    monkeypatch.setattr(psutil, "boot_time", lambda: 1700000000.0)
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


def test_files_that_may_not_be_read_are_as_if_they_were_not_there(tree, tmp_path, monkeypatch):
    (tmp_path / "proc/self/cgroup").mkdir(parents=True)  # reading a folder fails for every user, root too
    memory_is(16 << 30, 8 << 30, monkeypatch)
    assert memory_bytes() == (16 << 30, 8 << 30)
    assert cpu_quota_cores() is None


def test_this_box_has_cores_and_memory():
    assert len(usable_cores()) >= 1
    total, available = memory_bytes()
    assert total is not None and available is not None
    assert 0 < available <= total
    assert total <= psutil.virtual_memory().total
    started = boot_time_utc()
    assert started is not None and datetime.fromisoformat(started) < datetime.now(UTC)
