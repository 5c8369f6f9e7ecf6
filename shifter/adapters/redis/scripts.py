"""Runs the Lua scripts of this folder: loads them once, again when the server forgot.

A server forgets scripts at a restart, a fail-over or SCRIPT FLUSH. Then many calls
find out at the same time; one of them loads all scripts, the others wait for it and
ask again. A call that finds its script gone even then brings it along. Nothing was
executed by a call that found no script, so asking again is safe; no other call is ever
sent twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, Final, NamedTuple, TypeAlias

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError

from shifter.adapters.redis.client import (
    RedisClient,
    address,
    call_limit_s,
    close_redis,
    one_server,
    translated,
)

Command: TypeAlias = tuple[Any, ...]

_LOADING_TRIES: Final = 2


class Script(NamedTuple):
    """A script and the digest by which the server finds it."""

    source: str
    sha: str

    def command(self, keys: Sequence[bytes | str], args: Iterable[object]) -> Command:
        """The call of this script."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


def read_script(*names: str) -> Script:
    """A script from the files of this folder, joined in order."""
    folder = files("shifter.adapters.redis").joinpath("lua")
    parts = (folder.joinpath(f"{name}.lua").read_text("utf-8") for name in names)
    source = "".join(parts)
    # The server's name for a script is its SHA-1; nothing rests on its strength.
    return Script(
        source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    )


class ScriptRunner:
    """Sends commands of one store to one client.

    Args:
        client: Shared by several runners; the first that closes it, closes it for
            all.
        scripts: All that will be called.
    """

    def __init__(self, client: RedisClient, scripts: Iterable[Script]) -> None:
        self.client, self.store = client, address(client)
        self.is_cluster = isinstance(client, RedisCluster)
        self._sources = {script.sha: script.source for script in scripts}
        self._limit_s = call_limit_s(client)
        self._loading = asyncio.Lock()
        self.loads = 0

    async def send(self, op: str, command: Command) -> Any:
        """One command's answer.

        Raises:
            StoreUnavailableError, StoreRefusedError: From `translated`.
        """
        with translated(self.store, op):
            async with asyncio.timeout(self._limit_s):
                return await self._send(command)

    async def send_all(self, op: str, commands: Sequence[Command]) -> list[Any]:
        """The answers of commands sent in one round trip; fails as a whole.

        Raises:
            StoreUnavailableError, StoreRefusedError: The first failure; the others'
                effects stand.
        """
        if len(commands) == 1:
            return [await self.send(op, commands[0])]
        with translated(self.store, op):
            async with asyncio.timeout(self._limit_s):
                return await self._send_all(commands)

    async def close(self) -> None:
        """Close the client."""
        with translated(self.store, "close"):
            await close_redis(self.client)

    async def _send(self, command: Command) -> Any:
        for _ in range(_LOADING_TRIES):
            loads = self.loads
            try:
                return await self.client.execute_command(*command)
            except NoScriptError:
                await self._load(loads)
        return await self.client.execute_command(*self._whole(command))

    async def _send_all(self, commands: Sequence[Command]) -> list[Any]:
        loads = self.loads
        answers = await self._pipeline(commands)
        for step in range(_LOADING_TRIES):
            gone = [i for i, a in enumerate(answers) if isinstance(a, NoScriptError)]
            if not gone:
                break
            await self._load(loads)
            loads, is_last = self.loads, step == _LOADING_TRIES - 1
            again = [commands[i] for i in gone]
            if is_last:
                again = [self._whole(command) for command in again]
            for i, answer in zip(gone, await self._pipeline(again), strict=True):
                answers[i] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute(raise_on_error=False))

    def _whole(self, command: Command) -> Command:
        """The call with its script's source, for a server that keeps none."""
        _, sha, *rest = command
        return ("EVAL", self._sources[sha], *rest)

    async def _load(self, loads: int) -> None:
        async with self._loading:
            if self.loads == loads:
                for source in self._sources.values():
                    await self.client.script_load(source)
                self.loads += 1


async def describe(runner: ScriptRunner) -> str:
    """One line about the server: version, address, mode, and what endangers claims."""
    with translated(runner.store, "ping"):
        info = await runner.client.info(**await one_server(runner.client))
    version = info.get("redis_version", "?")
    policy = info.get("maxmemory_policy", "?")
    line = f"{runner.store}, version {version}, {info.get('redis_mode', '?')}"
    if policy not in ("noeviction", "?"):
        line += f"; evicts by {policy}: claims may vanish, use noeviction"
    return line
