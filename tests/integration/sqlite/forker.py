"""Forks with the file open: ``parent_leaves``, or ``parent_is_killed`` while it writes.

Prints how many records parent and child were told to be durable.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path

from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.adapters.system import SystemClock
from shifter.ports import Appended, Record

# Python 3.12 and later warn of what this is for.
warnings.simplefilter("ignore", DeprecationWarning)


def append(log, count):
    batch = [Record("shop.mail.low", b"1", []) for _ in range(count)]
    answers = log.append_sync(batch, timeout_s=10)
    assert answers == [Appended()] * count, answers


def parent_leaves(path):
    log = open_log(path)
    append(log, 1)
    started, may_go_on = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        append(log, 10)
        os.write(started[1], b"!")
        os.read(may_go_on[0], 1)
        append(log, 100)
        os._exit(0)
    os.read(started[0], 1)
    log.close(timeout_s=5)
    os.write(may_go_on[1], b"!")
    assert os.waitpid(child, 0)[1] == 0
    print(111)


def parent_is_killed(path):
    log = open_log(path)
    append(log, 1)
    forked, died = os.pipe(), os.pipe()
    parent = os.fork()
    if not parent:
        child = os.fork()
        if not child:
            os.close(died[1])
            os.write(forked[1], b"!")
            assert os.read(died[0], 1) == b""
            append(log, 10)
            print(11, flush=True)
            os._exit(0)
        # The lock is held when the signal comes.
        log.database.write_sync(lambda _: wait_for(forked[0]))
    os.close(died[1])
    os.waitpid(parent, 0)


def wait_for(fd):
    os.read(fd, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def open_log(path):
    database = Database(Path(path))
    return SqliteLaneLog(database, SystemClock(), new_topic=(1, 1, 1_000_000))


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
