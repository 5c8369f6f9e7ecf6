"""The file: what may be opened, the lock around every write, and the errors it gives.

SQLite's own busy handler sleeps and tries again, so that under load one process may
get nothing for seconds; and a checkpoint beside a writer can corrupt a file of SQLite
before 3.51.3 (the WAL-reset bug). An exclusive lock on a file of its own, taken around
every write transaction and every checkpoint, gives fairness and rules the bug out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

from shifter.errors import (
    ConfigError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)

_DAMAGED = (
    "the file is damaged; stop what uses it and run shifter log fsck (of a spool: "
    "shifter spool fsck), which makes a sound one and keeps a copy of this"
)
_REFUSED = {
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": "not a database; choose another path",
    "SQLITE_READONLY": "the file or its directory cannot be written",
    "SQLITE_CANTOPEN": "cannot be opened; check the directory and its rights",
    "SQLITE_PERM": "not permitted; check the rights of the file",
    "SQLITE_AUTH": "not permitted; check the rights of the file",
}


class NoSpaceError(StoreRefusedError):
    """The disk is full, for now; nothing was written."""

    def __init__(self, path: Path, op: str) -> None:
        detail = "no space is left; free some, nothing that was accepted is lost"
        super().__init__(f"sqlite {path}", op, detail)


class FileGoneError(StoreRefusedError):
    """The file was taken away under this process; nothing was written."""

    def __init__(self, path: Path, op: str) -> None:
        detail = (
            "the file was removed or replaced while in use; nothing more is accepted "
            "here: look for the old one, which may hold jobs, and restart this process"
        )
        super().__init__(f"sqlite {path}", op, detail)


def store_error(error: sqlite3.Error, path: Path, op: str) -> StoreError:
    """The package's error for one of SQLite's.

    Args:
        error: What SQLite raised.
        path: The file's path.
        op: The operation that failed.

    Returns:
        `NoSpaceError` for a full disk, `StoreRefusedError` where retrying cannot help,
        and `StoreUnavailableError` for all else.
    """
    name = getattr(error, "sqlite_errorname", "") or ""
    if name == "SQLITE_FULL":
        return NoSpaceError(path, op)
    for prefix, advice in _REFUSED.items():
        if name.startswith(prefix):
            return StoreRefusedError(f"sqlite {path}", op, f"{name}: {advice}")
    return StoreUnavailableError(f"sqlite {path}", op, f"{name or 'error'}: {error}")


APPLICATION_ID: Final = 0x53484654
"""``SHFT``: the application id in the header of every file of ours."""

_NETWORK: Final = (
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "smb",
)
_LABEL: Final = "sqlite file"
# A process that opens a file may not hang for ever behind one that was stopped.
_OPENING_S: Final = 10.0
_LOOK_S: Final = 0.01


def check_file(path: Path, *, mounts: str | None = None) -> None:
    """Return if ``path`` is a plain file on a local disk, or free to become one.

    It is not opened: closing it again would drop the locks that SQLite has on it in
    this process, and another process would then delete a log that is in use.

    Args:
        path: Absolute.
        mounts: Text in place of ``/proc/self/mountinfo``, for tests.

    Raises:
        ConfigError: A link, a directory, a pipe, another user's file, a
            world-writable one, or a place that several machines share.
    """
    kind = file_system(path, mounts)
    if kind.startswith(_NETWORK):
        want = f"{kind} is shared between machines; SQLite needs a local disk"
        raise ConfigError(_LABEL, str(path), want)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(_LABEL, str(path), error.strerror or str(error)) from None
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(_LABEL, str(path), "not a plain file; choose another path")
    check_owner(path, found)


def check_owner(path: Path, found: os.stat_result) -> None:
    """Return if only this user and root can write to a file.

    Args:
        path: For the error.
        found: Its status, from the system.

    Raises:
        ConfigError: It is another user's, or it is world-writable.
    """
    if found.st_uid not in (os.geteuid(), 0):
        want = f"it belongs to user {found.st_uid}; run as its owner, or chown it"
        raise ConfigError(_LABEL, str(path), want)
    if found.st_mode & stat.S_IWOTH:
        want = "it is world-writable: check what was written, then chmod 600"
        raise ConfigError(_LABEL, str(path), want)


def file_system(path: Path, mounts: str | None = None) -> str:
    """Type of the file system ``path`` is on; empty if unknown."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        except OSError:
            return ""
    found, longest = "", -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:  # proc(5): the mount point
            continue
        point = fields[4].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) > longest:
            found, longest = kinds[0], len(point)
    return found


Identity = tuple[int, int]
"""Device and number of a file."""


def identity(path: Path) -> Identity | None:
    """Which file is at a path; ``None`` if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class FileLock:
    """An exclusive lock between threads and processes, on ``<file>.lock``.

    Raises:
        ConfigError: The lock's file is one that others could hold for ever.
        OSError: It cannot be made or opened.
    """

    def __init__(self, path: Path, *, suffix: str = ".lock") -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._path = Path(f"{path}{suffix}")
        self._fd = os.open(self._path, flags, 0o600)
        try:
            check_owner(self._path, os.fstat(self._fd))
        except ConfigError:
            os.close(self._fd)
            raise

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Wait for the lock, hold it, let it go."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def soon_held(self, wait_s: float = _OPENING_S) -> Generator[None]:
        """Hold the lock as `held` does, and wait for it with a bound.

        Raises:
            StoreUnavailableError: Another process holds it for longer.
        """
        until = time.monotonic() + wait_s  # noqa: TID251  # no clock is there yet
        while True:
            with self.tried() as is_held:
                if is_held:
                    yield
                    return
            if time.monotonic() >= until:  # noqa: TID251
                detail = f"another process has held {self._path} for {wait_s:g} s"
                raise StoreUnavailableError(f"sqlite {self._path}", "open", detail)
            time.sleep(_LOOK_S)  # noqa: TID251  # as long as flock itself would block

    @contextlib.contextmanager
    def tried(self) -> Generator[bool]:
        """Hold the lock if it is free; yields whether it was."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back; a lock that is held goes with it."""
        os.close(self._fd)
