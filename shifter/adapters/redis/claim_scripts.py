"""Calls the claim scripts: once for a batch, or on a cluster once per hash tag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from shifter.adapters.redis.batch import raw
from shifter.adapters.redis.client import RedisClient
from shifter.adapters.redis.keys import ClaimKeys, hash_tag
from shifter.adapters.redis.scripts import Command, ScriptRunner, read_script
from shifter.model.claim import WaitingJobs, merged

_SCRIPTS: Final = (
    ("claim", "decide"),
    ("point",),
    ("renew",),
    ("finish", "ended"),
    ("cancel",),
    ("status",),
    ("mark",),
    ("wait",),
)

_WAITING_BATCH: Final = 1_000
"""A script call for so many keeps the server busy for 1 to 2 ms."""


class ClaimScripts:
    """The scripts of one claim store. Owned by one event loop.

    Args:
        client: From `shifter.adapters.redis.client.open_redis`.
        by_tag: Whether to send one call per hash tag; ``None`` decides by the client.

    Attributes:
        runner: Sends single commands.
        scripts: By name.
        by_tag: As decided.
        resets: Values found that are no claim.
        store_ms: The store's clock at the last answer; 0 before the first.
    """

    def __init__(self, client: RedisClient, *, by_tag: bool | None) -> None:
        self.scripts = {
            name: read_script("number", "record", "access", *before, name)
            for name, *before in _SCRIPTS
        }
        self.runner = ScriptRunner(client, self.scripts.values())
        self.by_tag = self.runner.is_cluster if by_tag is None else by_tag
        self.resets = self.store_ms = 0

    async def send(
        self,
        name: str,
        keys: Sequence[bytes],
        parts: Callable[[Sequence[int]], tuple[list[bytes], list[object]]],
        further: Sequence[Command] = (),
    ) -> list[tuple[Sequence[int], int, list[str]]]:
        """Call a script for all keys in one round trip.

        Args:
            name: The script's.
            keys: One for each member of the batch.
            parts: From positions in ``keys`` to further keys and the arguments.
            further: Sent along; their answers are ignored.

        Returns:
            Positions in ``keys``, when the script ran, and what it said of them.
        """
        if not keys:
            return []
        groups = self.groups(keys)
        commands: list[Command] = []
        for group in groups:
            more, args = parts(group)
            chosen = [*(keys[i] for i in group), *more]
            commands.append(self.scripts[name].command(chosen, args))
        commands += further
        replies = await self.runner.send_all(f"claim.{name}", commands)
        return [
            (group, *self.read(reply))
            for group, reply in zip(groups, replies, strict=False)
        ]

    def waiting(self, jobs: Iterable[WaitingJobs], keys: ClaimKeys) -> list[Command]:
        """The calls that record jobs as waiting."""
        commands: list[Command] = []
        for job_ids, keep_ms, identity in merged(jobs):
            value = b"" if identity is None else b"1p" + raw(identity)
            for at in range(0, len(job_ids), _WAITING_BATCH):
                prefixes, texts = keys.grouped(job_ids[at : at + _WAITING_BATCH])
                for group in self.groups(prefixes):
                    args = [keep_ms, value, *(texts[i] for i in group)]
                    chosen = [prefixes[i] for i in group]
                    commands.append(self.scripts["wait"].command(chosen, args))
        return commands

    def groups(self, keys: Sequence[bytes]) -> list[Sequence[int]]:
        """Positions in ``keys`` of what one call may meet together."""
        if not self.by_tag:
            return [range(len(keys))]
        groups: dict[bytes, list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(hash_tag(key), []).append(i)
        return list(groups.values())

    def read(self, reply: bytes) -> tuple[int, list[str]]:
        """When a script ran, and its further words."""
        now, resets, *words = reply.decode().split(" ")
        self.store_ms = int(now)
        self.resets += int(resets)
        return self.store_ms, words
