"""What a run uses: readings, their differences, the bounds of cgroups, GPUs, processes."""

from __future__ import annotations

import itertools
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ocr_precompute.monitoring.cgroup import Bound, cores, memory_groups
from ocr_precompute.monitoring.gpu import Gpus, NoGpus
from ocr_precompute.monitoring.processes import Machine
from ocr_precompute.monitoring.resources import Gpu, Reading, Resources, used

MACHINE = 64_000_000_000


def test_the_difference_of_two_readings() -> None:
    before = Reading(
        10.0, cores=4, cpu=100.0, memory=500, memory_used=60, memory_size=100, read=1000, reads=5
    )
    after = Reading(
        12.0,
        cores=4,
        cpu=104.0,
        memory=300,
        memory_used=30,
        memory_size=100,
        read=5000,
        written=7,
        reads=15,
        read_by_calls=40,
        major_faults=3,
        gpus=(Gpu("0", 0.5, 900, 1000), Gpu("1", 1.0, 200, 1000)),
    )
    found = used(before, after)
    assert found.seconds == 2
    assert found.cpu_share == 0.5
    assert (found.memory_peak, found.memory_share) == (500, 0.6)
    assert (found.read_bytes, found.written_bytes, found.reads) == (4000, 7, 10)
    assert found.mean_read == 4
    assert found.major_faults == 3
    assert (found.gpu_share, found.gpu_memory_peak) == (0.75, 900)


def test_counters_that_went_back_and_no_time_at_all() -> None:
    found = used(Reading(1.0, received=100), Reading(1.0, received=10))
    assert (found.received_bytes, found.cpu_share, found.mean_read) == (0, 0.0, 0.0)
    assert found.gpu_share is None
    assert not {name for name in found.as_dict() if name.startswith("gpu")}


def test_stretches_add_up() -> None:
    readings = [
        Reading(0.0, cores=2, cpu=0.0, memory=10),
        Reading(1.0, cores=2, cpu=2.0, memory=90, gpus=(Gpu("0", 1.0, 5, 9),)),
        Reading(4.0, cores=2, cpu=3.0, memory=20, gpus=(Gpu("0", 0.0, 3, 9),)),
    ]
    parts = [used(a, b) for a, b in itertools.pairwise(readings)]
    both = parts[0] + parts[1]
    assert both.seconds == 4
    assert both.cpu_share == 3 / 8
    assert both.memory_peak == 90
    assert (both.gpu_share, both.gpu_memory_peak) == (0.25, 5)
    assert both + Resources() == both
    shown = both.as_dict()
    assert shown["cpu_share"] == 0.375
    assert shown["gpu_share"] == 0.25


def system(root: Path, lines: str, files: dict[str, str]) -> Path:
    """A system's root folder, as far as cgroups go."""
    for name, text in {"proc/self/cgroup": lines, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def bounds(root: Path) -> list[Bound | None]:
    return [group.bound() for group in memory_groups(MACHINE, root)]


def test_memory_of_a_cgroup_of_version_2_and_of_those_around_it(tmp_path: Path) -> None:
    top = "sys/fs/cgroup"
    stat = "anon 500\ninactive_file 200\nactive_file 100\nshmem 7"
    root = system(
        tmp_path,
        "0::/pod/app",
        {
            f"{top}/pod/memory.max": "4000",
            f"{top}/pod/memory.current": "1000",
            f"{top}/pod/memory.stat": stat,
            f"{top}/pod/app/memory.max": "max",
            f"{top}/pod/app/memory.current": "900",
            f"{top}/pod/app/memory.stat": stat,
            f"{top}/pod/app/cpu.max": "max 100000",
            f"{top}/pod/cpu.max": "150000 100000",
        },
    )
    assert bounds(root) == [Bound(4000, 700)]  # files' pages make room when it is needed
    assert cores(root) == 1.5


def test_memory_of_a_cgroup_of_version_1(tmp_path: Path) -> None:
    top = "sys/fs/cgroup"
    root = system(
        tmp_path,
        "5:memory:/jobs/7\n3:cpu,cpuacct:/jobs/7\n0::/",
        {
            f"{top}/memory/jobs/7/memory.limit_in_bytes": "2000",
            f"{top}/memory/jobs/7/memory.usage_in_bytes": "1900",
            f"{top}/memory/jobs/7/memory.stat": "cache 9\ntotal_inactive_file 100\ninactive_file 1",
            f"{top}/memory/memory.limit_in_bytes": "9223372036854771712",
            f"{top}/memory/memory.usage_in_bytes": "1",
            f"{top}/memory/memory.stat": "total_inactive_file 0",
            f"{top}/cpu/cpu.cfs_quota_us": "-1",
            f"{top}/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert bounds(root) == [Bound(2000, 1800)]
    assert cores(root) is None


def test_a_container_that_sees_the_hosts_paths(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/memory.max": "3000",
        "sys/fs/cgroup/memory.current": "300",
        "sys/fs/cgroup/memory.stat": "anon 1",
    }
    root = system(tmp_path, "0::/../../docker/4f2a", files)
    assert bounds(root) == [Bound(3000, 300)]


@pytest.mark.parametrize("size", ["", "no number", "-5x"])
def test_a_cgroup_that_cannot_be_read_bounds_nothing(tmp_path: Path, size: str) -> None:
    files = {"sys/fs/cgroup/memory.max": size, "sys/fs/cgroup/memory.current": "1"}
    assert bounds(system(tmp_path, "0::/", files)) == []
    assert memory_groups(MACHINE, tmp_path / "nowhere") == ()
    assert cores(tmp_path / "nowhere") is None


def nvml(monkeypatch: pytest.MonkeyPatch, **calls: object) -> types.SimpleNamespace:
    made = types.SimpleNamespace(
        shut=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByUUID=lambda uuid: {"GPU-b": 1}[uuid],
        nvmlDeviceGetIndex=lambda handle: handle,
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu=40 + handle),
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=5, total=9),
    )

    def shut() -> None:
        made.shut += 1

    made.nvmlShutdown = shut
    vars(made).update(calls)
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    library = nvml(monkeypatch)
    gpus = Gpus()
    assert gpus.read() == (Gpu("0", 0.4, 5, 9), Gpu("1", 0.41, 5, 9))
    gpus.close()
    gpus.close()
    assert library.shut == 1
    assert gpus.read() == ()
    assert Gpus(["GPU-b"]).read() == (Gpu("1", 0.41, 5, 9),)


def fail(*_: object) -> None:
    raise RuntimeError("driver and library do not match")


@pytest.mark.parametrize(
    "name",
    ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetUtilizationRates", "nvmlShutdown"],
)
def test_a_driver_that_fails_means_no_gpus(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    library = nvml(monkeypatch, **{name: fail})
    gpus = Gpus()
    seen = gpus.read()
    assert (seen == ()) == (name != "nvmlShutdown")
    gpus.close()
    assert gpus.read() == ()
    assert library.shut == (name not in ("nvmlInit", "nvmlShutdown"))
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert Gpus().read() == ()


def test_a_machine_knows_what_children_did_after_they_are_gone(tmp_path: Path) -> None:
    work = "import sys\nfor _ in range(3_000_000): pass\nprint(flush=True)\nsys.stdin.read()"
    machine = Machine(tmp_path / "not" / "there", NoGpus())
    alone = machine.read()
    child = subprocess.Popen(
        [sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    machine._look_again = 0.0
    together = machine.read()
    child.communicate()
    after = machine.read()
    assert (together.processes, after.processes) == (alone.processes + 1, alone.processes)
    assert together.memory > alone.memory > 1_000_000
    assert after.cpu >= together.cpu > alone.cpu
    assert together.cores >= 0.01
    assert 0 < alone.memory_share <= 1
    assert 0 < alone.disk_free <= alone.disk_size  # of the folder that will hold it


@pytest.mark.proc
def test_a_machine_counts_what_is_written_and_read(tmp_path: Path) -> None:
    machine = Machine(tmp_path, NoGpus())
    before = machine.read()
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000_000))
    for _ in range(5):
        assert len(path.read_bytes()) == 1_000_000
    found = used(before, machine.read())
    assert found.reads >= 5
    assert found.writes >= 1
    assert found.read_call_bytes >= 5_000_000
    assert 0 < found.mean_read <= found.read_call_bytes / 5
