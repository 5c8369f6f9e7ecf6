"""A user of the secure servers: the command as a process, its words kept for a grep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from stack.kafka import KafkaCluster, Security
from stack.redis import RedisServer

ROOT = Path(__file__).parents[2]
_LONGEST_S = 100.0
TARGET = "tests.acceptance.jobs:app"
CANARY = "c4n4ry"
"""Part of every secret here, at its beginning and its end, and of nothing else."""

PREFIX = "sec"
"""What every namespace begins with: the access rules are for this prefix."""

# Characters that a URL, a shell or a form decoder would change.
HARD = "+/:@%41&=#"


class World(NamedTuple):
    """The servers of the session."""

    kafka: KafkaCluster
    security: Security
    redis: RedisServer
    redis_user: tuple[str, str]


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str
    seconds: float

    def json(self) -> Any:
        """What it printed, read as JSON."""
        assert self.out, self.err
        return json.loads(self.out)


class Shell:
    """One namespace, in an empty directory."""

    def __init__(self, world: World, namespace: str, folder: Path) -> None:
        self.world, self.namespace, self.folder = world, namespace, folder
        self.said: list[str] = []
        (folder / "effects").touch()

    def secret_file(self, text: str, name: str = "secret") -> str:
        """A file that only its owner may read."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text + "\n")
        return str(path)

    def log_url(self, user: str = "shop", **changes: str | None) -> str:
        """``SHIFTER_LOG`` without a password; ``None`` takes a property out."""
        properties = self.world.security.client(user) | {"sasl.password": None}
        properties |= {name.replace("_", "."): text for name, text in changes.items()}
        query = "&".join(
            f"{name.replace('.', '_')}={quote(text, safe='')}"
            for name, text in properties.items()
            if text is not None
        )
        return f"kafka://{self.world.kafka.bootstrap}/?{query}"

    def state_url(self, *, password: str | None = None, ca: Path | None = None) -> str:
        """``SHIFTER_STATE``, with another password or authority where given."""
        name, right = self.world.redis_user
        secret = quote(right if password is None else password, safe="")
        trusted = self.world.security.certificates.ca_cert if ca is None else ca
        address = f"{name}:{secret}@127.0.0.1:{self.world.redis.port}/0"
        return f"rediss://{address}?ssl_ca_certs={quote(str(trusted), safe='')}"

    def environ(self, user: str = "shop") -> dict[str, str]:
        """The environment in which everything works, for users with the rights."""
        password = self.world.security.users[user]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        return {
            **kept,
            "SHIFTER_LOG": self.log_url(user),
            "SHIFTER_STATE": self.state_url(),
            "SHIFTER_KAFKA__SASL_PASSWORD_FILE": self.secret_file(password, user),
            "SHIFTER_NAMESPACE": self.namespace,
            "SHIFTER_PARTITIONS": "1",
            # On a busy machine half a second is no sign of a store that is away.
            "SHIFTER_CLAIM_TIMEOUT": "5s",
            "TEST_NAMESPACE": self.namespace,
            "EFFECTS": str(self.folder / "effects"),
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *arguments: str, user: str = "shop", **changes: str | None) -> Done:
        """Run ``shifter`` to its end; a change of ``None`` unsets a variable."""
        changed = self.environ(user) | changes
        begun = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "shifter.cli", *arguments],
                env={name: text for name, text in changed.items() if text is not None},
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=_LONGEST_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            said = (late.stderr or b"").decode(errors="replace")
            raise AssertionError(f"{arguments} did not end\n{said}") from None
        self.said += [done.stdout, done.stderr]
        seconds = time.monotonic() - begun
        return Done(done.returncode, done.stdout, done.stderr, seconds)

    def ok(self, *arguments: str, user: str = "shop", **changes: str | None) -> Done:
        """Run ``shifter``; it has to succeed."""
        done = self.run(*arguments, user=user, **changes)
        assert done.code == 0, f"{arguments}: {done.code}\n{done.err}"
        return done

    def letters(self, queue: str = "default") -> list[Any]:
        """The dead letters of a queue, grouped."""
        return self.ok("dlt", "list", queue, "--json").json()

    def effects(self) -> list[str]:
        """What jobs did: their names and arguments."""
        lines = (self.folder / "effects").read_text().splitlines()
        return [" ".join(line.split()[:2]) for line in lines]


def assert_clear(done: Done, code: int, *words: str) -> None:
    """It ended soon with this code, and said why in three lines without a traceback."""
    __tracebackhide__ = True
    assert done.code == code, done.err
    lines = [line for line in done.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 3, done.err
    assert [line.split(":")[0].strip() for line in lines] == ["error", "why", "fix"]
    for word in words:
        assert word in done.err, done.err
    assert "Traceback" not in done.err
    assert CANARY not in done.out + done.err
    assert done.seconds < 60
