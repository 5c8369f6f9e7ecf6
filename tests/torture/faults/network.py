"""Packets that get lost, by nftables; what the proxy cannot do, since TCP hides it.

A rule is for one port of 127.0.0.1 and lies in a table of this process, which goes when
the fault heals; tables of processes that are gone are swept out.

Delay and reordering of packets need the kernel's ``netem`` queue. `delay_packets` says
why it cannot be had; latency is then the proxy's (`tests.torture.faults.proxy`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.torture.faults.fault import Cannot, Healing

_PREFIX: Final = "shifter_fault_"


class PacketLoss(Healing):
    """Packets from and to a port of 127.0.0.1 get lost.

    Args:
        port: Of the server.
        ratio: Of the packets, in (0, 1]; at 1 nothing passes, without a word: a link
            that is cut, which keepalive finds.

    Raises:
        Cannot: No nftables, or not the right to use them.
    """

    def __init__(self, port: int, ratio: float) -> None:
        super().__init__(f"packet loss {ratio:.0%}")
        self._port, self._permille = port, round(ratio * 1_000)
        self._table = f"{_PREFIX}{os.getpid()}_{port}"
        _sweep()
        _nft(f"add table inet {self._table}", f"delete table inet {self._table}")

    def _begin(self) -> None:
        chance = f"numgen random mod 1000 < {self._permille}"
        if self._permille >= 1_000:
            chance = ""
        chain = f"inet {self._table} loss"
        _nft(
            f"add table inet {self._table}",
            f"add chain {chain} {{ type filter hook input priority 0; }}",
            f"add rule {chain} iif lo tcp dport {self._port} {chance} drop",
            f"add rule {chain} iif lo tcp sport {self._port} {chance} drop",
        )

    def _end(self) -> None:
        _nft(f"delete table inet {self._table}")


def delay_packets() -> None:
    """Whether the kernel can delay packets.

    Raises:
        Cannot: Always where it has no ``netem``, with the kernel's own words.
    """
    if shutil.which("tc") is None or shutil.which("unshare") is None:
        raise Cannot("no tc or unshare on the path")
    # in a network of its own, so that nobody's loopback is touched
    tried = subprocess.run(
        [
            "unshare",
            "-n",
            "tc",
            *["qdisc", "add", "dev", "lo", "root", "netem", "delay", "10ms"],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        raise Cannot(f"this kernel has no netem: {tried.stderr.strip()}")


def _nft(*commands: str) -> None:
    if shutil.which("nft") is None:
        raise Cannot("no nft on the path")
    done = subprocess.run(
        ["nft", "; ".join(commands)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Cannot(f"nft refuses: {done.stderr.strip().splitlines()[:1]}")


def _sweep() -> None:
    """Remove what a killed process left behind."""
    if shutil.which("nft") is None:
        return
    listed = subprocess.run(
        ["nft", "list", "tables"], capture_output=True, text=True, check=False
    )
    for pid, port in re.findall(rf"{_PREFIX}(\d+)_(\d+)", listed.stdout):
        if not Path(f"/proc/{pid}").exists():
            _nft(f"delete table inet {_PREFIX}{pid}_{port}")
