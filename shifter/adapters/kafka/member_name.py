"""A name for a group's member that its successor on this machine gets again.

A member with a name (``group.instance.id``) keeps its partitions for as long as its
session: one that is killed and started again within that time goes on with them, and
the others are not disturbed. Two live members with one name would throw each other out.

So a name belongs to who has bound an address of its number, which the kernel frees at
the moment its process ends, however it ends. Addresses belong to a network namespace:
the name holds the machine's boot and the namespace, so that containers and machines
with the same host name never share one. Where nothing of it can be had (no Linux), a
member has no name, and its partitions wait out its session after a kill.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from pathlib import Path
from typing import Final

from shifter.runtime.forking import renew_in_child

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_NETWORK: Final = Path("/proc/self/ns/net")
_MOST: Final = 1_000
_HOST_CHARS: Final = 64


class MemberName:
    """A name, for as long as it is held.

    Attributes:
        text: The name.
    """

    def __init__(self, text: str, held: socket.socket) -> None:
        self.text, self._held = text, held
        renew_in_child(self.release)

    def release(self) -> None:
        """Let another process have it; the end of this one does so by itself."""
        self._held.close()


def claim_name(namespace: str) -> MemberName | None:
    """The lowest name of this machine that no live process of the namespace has.

    Args:
        namespace: Of the groups that it is a name in.

    Returns:
        ``None`` where names cannot be had: not on Linux, or all are taken.
    """
    try:
        place = f"{_BOOT.read_text()} {_NETWORK.readlink()}"
    except OSError:
        return None
    mark = hashlib.sha256(place.encode()).hexdigest()[:10]
    host = socket.gethostname()[:_HOST_CHARS]
    for number in range(_MOST):
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            held.bind(f"\0shifter/{namespace}/{number}")
            return MemberName(f"{host}-{mark}-{number}", held)
        held.close()
    return None
