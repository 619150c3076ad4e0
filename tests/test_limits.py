"""The limits of containers, read from imitations of Linux's control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import fastconv
from fastconv import config
from fastconv.info import configuration
from fastconv.limits import cpu_quota, cpu_set, memory_limit

V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup rw,nsdelegate"
V1 = [
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
    "33 31 0:31 {root} /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset",
    "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
]
NO_LIMIT_V1 = "9223372036854771712"


@pytest.fixture
def system(tmp_path):
    """Makes a root with ``/proc``, the mounts, and the files of the groups."""

    def make(groups: list[str], mounts: list[str], files: dict[str, str], root: str = "/") -> Path:
        proc = tmp_path / "proc" / "self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text("".join(f"{line}\n" for line in groups))
        other = "22 1 8:1 / / rw,relatime - ext4 /dev/root rw"
        (proc / "mountinfo").write_text(
            "".join(f"{line.format(root=root)}\n" for line in [other, *mounts])
        )
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return make


@pytest.mark.parametrize("name", [b"caf\xe9", "caf\x85\u2028".encode()])
def test_a_mount_whose_name_is_no_line_of_text(system, name):
    root = system(["0::/"], [V2], {"cpu.max": "50000 100000"})
    mounts = root / "proc" / "self" / "mountinfo"
    stick = b"40 1 8:17 / /media/%s rw - vfat /dev/sdb1 rw\n" % name
    mounts.write_bytes(stick + mounts.read_bytes())
    assert cpu_quota(root) == 0.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50000 100000", 0.5),
        ("150000 100000", 1.5),
        ("25000 50000", 0.5),
        ("max 100000", None),
        ("", None),
        ("50000", None),
        ("50000 0", None),
    ],
)
def test_a_quota_of_version_2(system, text, expected):
    assert cpu_quota(system(["0::/"], [V2], {"cpu.max": text})) == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("50000", "100000", 0.5), ("-1", "100000", None), ("300000", "100000", 3.0)],
)
def test_a_quota_of_version_1(system, quota, period, expected):
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": quota,
        "cpu,cpuacct/cpu.cfs_period_us": period,
        "cpuset/cpu.cfs_quota_us": "1",  # of no meaning there
        "cpuset/cpu.cfs_period_us": "100000",
    }
    groups = ["5:cpuset:/", "4:memory:/", "3:cpu,cpuacct:/"]
    assert cpu_quota(system(groups, V1, files)) == expected


@pytest.mark.parametrize("lowest", ["a.slice", "a.slice/b", "a.slice/b/c"])
def test_the_least_limit_of_the_groups_above_holds(system, lowest):
    files = {}
    for group in ("a.slice", "a.slice/b", "a.slice/b/c"):
        files[f"{group}/cpu.max"] = "70000 100000" if group == lowest else "400000 100000"
        files[f"{group}/memory.max"] = "7000" if group == lowest else "9000"
    files |= {"other/cpu.max": "1 100000", "other/memory.max": "1"}
    root = system(["0::/a.slice/b/c"], [V2], files)
    assert cpu_quota(root) == 0.7
    assert memory_limit(root) == 7000


@pytest.mark.parametrize("root", ["/docker/abc", "/../..", "/kubepods"])
def test_a_container_that_sees_its_own_group_alone(system, root):
    """The path is the host's, or leads out of the container, where only its group is."""
    path = "/../other" if ".." in root else "/docker/abc"
    files = {"cpu.max": "50000 100000", "memory.max": "4096"}
    root = system([f"0::{path}"], [V2], files, root)
    assert cpu_quota(root) == 0.5
    assert memory_limit(root) == 4096


def test_memory_of_version_1(system):
    files = {
        "memory/memory.limit_in_bytes": NO_LIMIT_V1,
        "memory/job/memory.limit_in_bytes": "1048576",
        "cpuset/job/memory.limit_in_bytes": "1",
    }
    assert memory_limit(system(["8:memory:/job", "0::/job"], V1, files)) == 2**20


def test_both_versions_at_once(system):
    files = {
        "memory/memory.limit_in_bytes": "5000",
        "unified/memory.max": "4000",
        "unified/cpu.max": "max 100000",
    }
    unified = V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    root = system(["8:memory:/", "0::/"], [*V1, unified], files)
    assert memory_limit(root) == 4000
    assert cpu_quota(root) is None


@pytest.mark.parametrize(
    ("groups", "mounts"),
    [([], []), (["0::/"], []), ([], [V2]), (["nonsense"], [V2]), (["0::/"], ["also - nonsense"])],
)
def test_what_cannot_be_read_is_no_limit(system, groups, mounts):
    root = system(groups, mounts, {"cpu.max": "50000 100000"})
    assert cpu_quota(root) is None
    assert memory_limit(root) is None


def test_a_system_without_control_groups(tmp_path):
    assert cpu_quota(tmp_path) is None
    assert memory_limit(tmp_path) is None


# ---- what follows -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota", "expected"), [(0.01, 1), (0.5, 1), (1.0, 1), (1.5, 2), (2.0, 2), (64.0, 3), (None, 3)]
)
def test_the_threads_are_those_that_the_container_feeds(monkeypatch, quota, expected):
    monkeypatch.setattr(config, "container_cpus", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    assert fastconv.get_num_threads() == expected
    said = configuration()["cpus"]
    assert said.startswith(f"{expected} of ")
    assert ("the container's limit is" in said) == (quota is not None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0-3,8", {0, 1, 2, 3, 8}), ("5", {5}), ("", None), ("all", None)],
)
def test_the_cpus_of_a_group_of_version_2(system, text, expected):
    assert cpu_set(system(["0::/"], [V2], {"cpuset.cpus.effective": text})) == expected


def test_the_cpus_of_the_innermost_group_count(system):
    files = {"cpuset.cpus.effective": "0-7", "job/cpuset.cpus.effective": "2-3"}
    assert cpu_set(system(["0::/job"], [V2], files)) == {2, 3}


def test_the_cpus_of_a_group_of_version_1(system):
    files = {"cpuset/job/cpuset.cpus": "4-5", "memory/job/cpuset.cpus": "0"}
    assert cpu_set(system(["3:cpuset:/job", "2:memory:/job"], V1, files)) == {4, 5}
