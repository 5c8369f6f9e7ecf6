"""What a forked child renews: threads, locks and connections stay with the parent.

Each object that has one of them names a method here. The methods are called in the
child before `os.fork` returns there; they only forget, so that the next use opens anew:
a child that uses nothing pays nothing.
"""

from __future__ import annotations

import os
import signal
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Final

# Not `weakref.WeakMethod`: its callback prints a traceback where the interpreter ends.
_METHODS: Final[weakref.WeakKeyDictionary[object, list[Callable[[object], None]]]] = (
    weakref.WeakKeyDictionary()
)
_LEFT_TO_WORKERS: Final = (signal.SIGTERM, signal.SIGINT)


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


def default_signals_in_child() -> None:
    """Let forked children of this process end by SIGTERM and SIGINT, as others do.

    A child inherits the handlers of an event loop, and the socket through which they
    wake it: without this a signal to the child would reach the parent's loop.
    """
    os.register_at_fork(after_in_child=_default_signals)


def _renew() -> None:
    for owner, methods in list(_METHODS.items()):
        for method in methods:
            method(owner)


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in _LEFT_TO_WORKERS:
        signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_renew)
