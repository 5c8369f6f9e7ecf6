"""Renews threads, locks and connections in a forked child; they stay with the parent.

Each object that owns one of them registers a method here. The methods are called in the
child before `os.fork` returns there. They only forget, and the next use opens anew, so
a child that uses nothing pays nothing. An object that must not be in use during a fork
is put away before it, and taken up again on both sides.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any, Final, Protocol

# Not `weakref.WeakMethod`: its callback prints a traceback where the interpreter ends.
_METHODS: Final[weakref.WeakKeyDictionary[object, list[Callable[[object], None]]]] = (
    weakref.WeakKeyDictionary()
)
_PUT_AWAY: Final[dict[int, weakref.ref[PutAway]]] = {}
_HELD: Final[list[PutAway]] = []
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


class PutAway(Protocol):
    """An object that must not be in use while a process forks."""

    def before_fork(self) -> None:
        """Wait until it is unused, and block new uses; must not raise."""

    def after_fork_in_parent(self) -> None:
        """Let others use it again."""

    def after_fork_in_child(self) -> None:
        """Begin anew; queued work belongs to the parent."""


_keys: Final = itertools.count()
_one_fork: Final = threading.Lock()
_ends_children: Final = threading.Event()
_masks: Final[list[set[Any]]] = []


def renew_in_child(method: Callable[[], None]) -> None:
    """Call a bound method in every forked child, for as long as its object lives.

    Args:
        method: Must not block, start threads or raise. Objects are renewed in the
            order in which they asked for it.

    Raises:
        TypeError: It is no bound method.
    """
    if not isinstance(method, MethodType):
        raise TypeError(method)
    _METHODS.setdefault(method.__self__, []).append(method.__func__)


def put_away_for_forks(what: PutAway) -> None:
    """Put an object away before each fork, for as long as it lives."""
    key, known = next(_keys), _PUT_AWAY
    # The table is bound, and no global: those are gone when the interpreter ends.
    known[key] = weakref.ref(what, lambda _: known.pop(key, None))


class NoForkMeanwhile:
    """A context manager: a fork waits until no thread is inside. Not reentrant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        put_away_for_forks(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait until no thread is inside."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let threads in again."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Let threads in again."""
        self._lock.release()


def default_signals_in_child() -> None:
    """Let forked children of this process end by SIGTERM and SIGINT, as others do.

    A child inherits the handlers of an event loop, and the socket through which they
    wake it: without this a signal to the child would reach the parent's loop.
    """
    _ends_children.set()


def _before() -> None:
    _one_fork.acquire()
    if _ends_children.is_set():
        # One that comes before the child has its own handlers waits until then.
        _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING))
    for reference in list(_PUT_AWAY.values()):
        what = reference()
        if what is not None:
            what.before_fork()
            _HELD.append(what)


def _after_in_parent() -> None:
    while _HELD:
        _HELD.pop().after_fork_in_parent()
    _unmask()
    _one_fork.release()


def _after_in_child() -> None:
    while _HELD:
        _HELD.pop().after_fork_in_child()
    if _ends_children.is_set():
        signal.set_wakeup_fd(-1)
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)
    _unmask()
    _one_fork.release()
    _forget_pools()
    for owner, methods in list(_METHODS.items()):
        for method in methods:
            method(owner)


def _forget_pools() -> None:
    # The interpreter's end joins the threads of pools. They are the parent's, but for
    # the one that forked: it would join itself, and the child end with an error.
    module = sys.modules.get("concurrent.futures.thread")
    threads = getattr(module, "_threads_queues", None)
    if threads is not None:
        threads.clear()


def _unmask() -> None:
    while _masks:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


os.register_at_fork(
    before=_before,
    after_in_parent=_after_in_parent,
    after_in_child=_after_in_child,
)
