"""What a fault is: something with a name that can be started and healed.

A fault is made of what it acts on (a process id, a server, a proxy, a URL), begins with
``start`` and ends with ``heal``. Healing twice, or what was never started, is harmless,
so that a test heals on every way out. A fault may be started again after it healed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

_JOIN_S = 30.0


class Cannot(Exception):
    """This machine cannot carry the fault; says why."""


class Fault(Protocol):
    """What a conductor plays."""

    name: str

    def start(self) -> None:
        """Begin; returns once the fault is in force."""

    def heal(self) -> None:
        """End; idempotent."""


class Healing:
    """The furniture of most faults: a name, ``with``, and healing at most once."""

    def __init__(self, name: str) -> None:
        self.name, self._is_on = name, False

    def start(self) -> None:
        """Begin."""
        self._begin()
        self._is_on = True

    def heal(self) -> None:
        """End; harmless when it has not begun."""
        if self._is_on:
            self._is_on = False
            self._end()

    def _begin(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        """One that does not last has nothing to end."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.heal()


class Deed(Healing):
    """A fault made of one or two functions.

    Args:
        name: What it is called in a report.
        begin: Brings it about.
        end: Undoes it; nothing by default.
    """

    def __init__(
        self,
        name: str,
        begin: Callable[[], object],
        end: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(name)
        self._do, self._undo = begin, end

    def _begin(self) -> None:
        self._do()

    def _end(self) -> None:
        if self._undo is not None:
            self._undo()


class Repeated(Healing):
    """Does something again and again, on a thread of its own, until healed.

    What the deed raises is kept and raised by `heal`.

    Args:
        name: What it is called in a report.
        deed: Told its number, from 0.
        every_s: Pause between two, > 0.
        times: How often at most; without end by default.
    """

    def __init__(
        self,
        name: str,
        deed: Callable[[int], object],
        *,
        every_s: float,
        times: int | None = None,
    ) -> None:
        super().__init__(name)
        self._deed, self._every_s, self._times = deed, every_s, times
        self._stop = threading.Event()
        self.count = 0
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def _begin(self) -> None:
        self._stop.clear()
        self.count, self._error = 0, None
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it was done often enough; whether it was."""
        assert self._thread is not None
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._times is None or self.count < self._times:
                self._deed(self.count)
                self.count += 1
                if self._stop.wait(self._every_s):
                    return
        except BaseException as error:
            self._error = error

    def _end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
        if self._error is not None:
            raise self._error
