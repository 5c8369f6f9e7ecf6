"""A wall clock that jumps, for one process.

`WallClock` is libfaketime, which also shifts the waits that a program counts by the
wall clock. It asks for memory before it is ready, and a server on jemalloc, such as
redis-server, does not survive that: `ServerClock` is forty lines of C of our own.

Only the wall clock is moved. A monotonic clock that jumps exists nowhere but in a
broken test, and librdkafka, asyncio and the kernel's own timeouts stand on it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol, TypeVar

import pytest

from tests.torture.faults.fault import Cannot, Healing, Repeated
from tests.torture.faults.preload import library

_PLACES: Final = (
    "/usr/lib/x86_64-linux-gnu/faketime",
    "/usr/lib/aarch64-linux-gnu/faketime",
    "/usr/lib/faketime",
)


class Clock(Protocol):
    """A wall clock that can be set."""

    environment: dict[str, str]

    def set(self, ahead_s: int) -> None:
        """Set it this many seconds ahead of the true one; < 0 behind."""


class WallClock:
    """The wall clock of processes that are started with `environment`.

    Args:
        folder: For the file that says how far it is off; read at every look.

    Raises:
        Cannot: libfaketime is not here and cannot be installed.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.environment = {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
        self.set(0)

    def set(self, ahead_s: int) -> None:
        """Set it this many seconds ahead of the true one; < 0 behind."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+d}s\n")
        new.rename(self._file)


class ServerClock:
    """The wall clock of servers that are started `around` it.

    Args:
        folder: For the library, and the file that says how far the clock is off.

    Raises:
        Cannot: There is no C compiler here.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "server-clock"
        made = library("wall_clock", folder)
        self.environment = {"LD_PRELOAD": str(made), "WALL_CLOCK": str(self._file)}
        self._file.write_bytes(bytes(8))

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """What is started within has this clock."""
        os.environ.update(self.environment)
        try:
            yield
        finally:
            for name in self.environment:
                del os.environ[name]

    def set(self, ahead_s: int) -> None:
        """Set it this many seconds ahead of the true one; < 0 behind."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", ahead_s))


C = TypeVar("C", bound=Clock)


def had(clock: Callable[[Path], C], folder: Path) -> C:
    """A clock, or a skip that says why this machine has none."""
    try:
        return clock(folder)
    except Cannot as reason:
        pytest.skip(str(reason))


class ClockSet(Healing):
    """A wall clock is off by so many seconds until healed."""

    def __init__(self, clock: Clock, ahead_s: int) -> None:
        super().__init__(f"clock {ahead_s:+d} s")
        self._clock, self._ahead_s = clock, ahead_s

    def _begin(self) -> None:
        self._clock.set(self._ahead_s)

    def _end(self) -> None:
        self._clock.set(0)


class ClockStrobe(Repeated):
    """A wall clock jumps to and fro; healed, it is right again."""

    def __init__(self, clock: Clock, *offsets_s: int, every_s: float = 0.2) -> None:
        super().__init__(
            f"clock strobe {offsets_s}",
            lambda n: clock.set(offsets_s[n % len(offsets_s)]),
            every_s=every_s,
        )
        self._clock = clock

    def _end(self) -> None:
        super()._end()
        self._clock.set(0)


def _library() -> str:
    found = _installed()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["apt-get", "update", "-qq"], [*command, "libfaketime"]):
            subprocess.run(arguments, env=environment, capture_output=True, check=False)
        found = _installed()
    if found is None:
        raise Cannot("no libfaketime here, and apt-get cannot install it")
    return found


def _installed() -> str | None:
    for place in _PLACES:
        library = Path(place) / "libfaketimeMT.so.1"
        if library.exists():
            return str(library)
    return None
