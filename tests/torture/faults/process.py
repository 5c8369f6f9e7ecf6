"""What may happen to a process: frozen, killed, starved of time, memory or files."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.torture.faults.fault import Cannot, Healing, Repeated

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PERIOD_US: Final = 100_000


class Paused(Healing):
    """SIGSTOP until healed by SIGCONT; a process that is gone meanwhile is no error."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"SIGSTOP {pid}")
        self._pid = pid

    def _begin(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)


class Killed(Healing):
    """SIGKILL; whoever supervises the process may start another one."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"SIGKILL {pid}")
        self._pid = pid

    def _begin(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


class RollingRestart(Repeated):
    """Restarts one member after the other, round and round.

    Args:
        restart: Ends a member in order and starts it again; returns when it is ready.
        members: How many there are.
        times: Restarts in all.
        every_s: Pause between two.
    """

    def __init__(
        self,
        restart: Callable[[int], object],
        members: int,
        *,
        times: int | None = None,
        every_s: float = 0.5,
    ) -> None:
        super().__init__(
            "rolling restart",
            lambda number: restart(number % members),
            every_s=every_s,
            times=times,
        )


class CpuQuota(Healing):
    """A process gets this much of one core.

    Args:
        pid: With all its threads.
        ratio: Of one core, > 0.

    Raises:
        Cannot: Control groups of version 1 with a CPU quota cannot be made here.
    """

    def __init__(self, pid: int, ratio: float) -> None:
        super().__init__(f"CPU {ratio:.0%}")
        self._group = _Group("cpu", pid)
        self._quota_us = max(1_000, int(ratio * _PERIOD_US))

    def _begin(self) -> None:
        self._group.enter(
            {
                "cpu.cfs_period_us": str(_PERIOD_US),
                "cpu.cfs_quota_us": str(self._quota_us),
            }
        )

    def _end(self) -> None:
        self._group.leave()


class MemoryLimit(Healing):
    """A process may take this much more memory; beyond it the kernel kills it.

    What it held before is not counted.

    Args:
        pid: With all its threads.
        further_bytes: From now on.

    Raises:
        Cannot: Control groups of version 1 with a memory limit cannot be made here.
    """

    def __init__(self, pid: int, further_bytes: int) -> None:
        super().__init__(f"memory +{further_bytes / 1e6:.0f} MB")
        self._group = _Group("memory", pid)
        self._bytes = further_bytes

    def _begin(self) -> None:
        self._group.enter({"memory.limit_in_bytes": str(self._bytes)})

    def _end(self) -> None:
        self._group.leave()


class FileLimit(Healing):
    """A process may open no file whose number is this or more."""

    def __init__(self, pid: int, files: int) -> None:
        super().__init__(f"at most {files} files")
        self._pid, self._files = pid, files
        self._before = (0, 0)

    def _begin(self) -> None:
        limits = resource.prlimit(self._pid, resource.RLIMIT_NOFILE)
        self._before = limits
        resource.prlimit(
            self._pid, resource.RLIMIT_NOFILE, (self._files, self._before[1])
        )

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self._pid, resource.RLIMIT_NOFILE, self._before)


def open_files(pid: int) -> int:
    """How many file descriptors a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def children(pid: int) -> Sequence[int]:
    """Process ids of its children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


class _Group:
    """A control group of version 1 for one process, removed afterwards."""

    def __init__(self, controller: str, pid: int) -> None:
        self._root, self._pid = _CGROUPS / controller, pid
        probe = self._path("probe")
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            raise Cannot(f"no cgroup v1 {controller!r} to be made: {error}") from error
        if not (self._root / "tasks").exists():
            raise Cannot(f"{self._root} is no cgroup v1 hierarchy")
        self._before: Path | None = None

    def enter(self, settings: dict[str, str]) -> None:
        self._before = self._present()
        path = self._path()
        path.mkdir(exist_ok=True)
        for name, value in settings.items():
            (path / name).write_text(value)
        (path / "cgroup.procs").write_text(str(self._pid))

    def leave(self) -> None:
        path = self._path()
        before = self._root if self._before is None else self._before
        for pid in (path / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (before / "cgroup.procs").write_text(pid)
        path.rmdir()

    def _path(self, what: str = "fault") -> Path:
        return self._root / f"shifter-{what}-{os.getpid()}-{self._pid}"

    def _present(self) -> Path:
        """The group the process is in now."""
        for line in Path(f"/proc/{self._pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if self._root.name in controllers.split(","):
                return self._root / path.lstrip("/")
        return self._root
