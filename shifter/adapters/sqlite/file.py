"""The file: what may be opened, and the lock around every write.

SQLite's own busy handler sleeps and tries again, so that under load one process may
get nothing for seconds; and a checkpoint beside a writer can corrupt a file of SQLite
before 3.51.3 (the WAL-reset bug). An exclusive lock on a file of its own, taken around
every write transaction and every checkpoint, gives fairness and rules the bug out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Final

from shifter.errors import ConfigError

APPLICATION_ID: Final = 0x53484654
"""``SHFT``: what the header of every file of ours says."""

# A bind mount of a container (9p, virtiofs, other fuse) may be one machine's own: those
# are let through.
_NETWORK: Final = (
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
FILE: Final = "sqlite file"
"""What errors call it."""


def check_file(path: Path, *, mounts: str | None = None) -> None:
    """Return if a database may be at ``path``.

    Args:
        path: Absolute.
        mounts: What ``/proc/self/mountinfo`` says, where it is not asked itself.

    Raises:
        ConfigError: A link, a directory, a pipe, or a place that several machines
            share.
    """
    kind = file_system(path.parent.resolve() / path.name, mounts)
    if kind.startswith(_NETWORK):
        want = f"{kind} is shared between machines; SQLite needs a local disk"
        raise ConfigError(FILE, str(path), want)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(FILE, str(path), error.strerror or str(error)) from None
    if not stat.S_ISREG(mode):
        want = f"a {_kind(mode)}, not a plain file; choose another path"
        raise ConfigError(FILE, str(path), want)


def create_file(path: Path) -> None:
    """Make an empty file that only its owner may read, where there is none.

    SQLite gives its ``-wal`` and ``-shm`` the same rights.

    Raises:
        OSError: It cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    # Never opened by us where it exists: closing it again would drop the locks that
    # SQLite holds for this process.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, flags, 0o600))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "link",
        stat.S_IFDIR: "directory",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(mode), "device")


def file_system(path: Path, mounts: str | None = None) -> str:
    """Type of the file system ``path`` is on; empty where nobody says."""
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


class FileLock:
    """An exclusive lock between threads and processes, on ``<file>.lock``."""

    def __init__(self, path: Path, *, suffix: str = ".lock") -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(f"{path}{suffix}", flags, 0o600)

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Wait for the lock, hold it, let it go."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

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
