"""A Docker engine and one compose project, whatever the machine offers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KIT = ROOT.parent / "shared" / "compose-kit"
FILES = ("docker-compose.yml", "tests/compose/override.yml")


class NoDocker(Exception):
    """There is no engine, and nothing to get one from."""


@contextmanager
def engine() -> Iterator[None]:
    """An engine that answers: the machine's own, or the kit's, stopped at the end.

    Where the kit is, it also makes the images that a registry would have given.

    Raises:
        NoDocker: In one line.
    """
    was_there, has_kit = _answers(), (KIT / "up").exists()
    if not was_there and not has_kit:
        raise NoDocker("no Docker engine answers, and there is no compose-kit")
    try:
        if has_kit:
            _provide()
        yield
    finally:
        if not was_there:
            # Also one that was started before something else failed.
            subprocess.run([KIT / "down"], check=False, stdout=sys.stderr)


def _provide() -> None:
    _say("compose-kit: engine and images (about four minutes at first)")
    try:
        subprocess.run([KIT / "up", ROOT / FILES[0]], check=True, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoDocker(f"the compose-kit provides no Docker engine: {error}") from None


class Project:
    """One run of the compose files, on ports and under a name of its own."""

    def __init__(self) -> None:
        self.kafka_port, self.redis_port = _free_ports(2)
        self.name = f"shifter-test-{uuid.uuid4().hex[:8]}"
        self._password = ""

    @property
    def host_env(self) -> dict[str, str]:
        """What a client on this machine needs."""
        return {
            **os.environ,
            "SHIFTER_LOG": f"kafka://localhost:{self.kafka_port}",
            "SHIFTER_STATE": f"redis://:{self._password}@localhost:{self.redis_port}/0",
            "SHIFTER_NAMESPACE": "relay",
        }

    @contextmanager
    def up(self) -> Iterator[None]:
        """Build, start, wait until healthy; forget everything at the end."""
        with ExitStack() as stack:
            stack.callback(self.compose, "down", "--volumes")
            stack.callback(self._tell_end)
            self.compose("up", "--build", "--wait", "--wait-timeout", "240")
            secret = ("exec", "-T", "redis", "cat", "/run/shifter/password")
            self._password = self.compose(*secret, quiet=True).strip()
            yield

    def compose(self, *arguments: str, quiet: bool = False) -> str:
        """Run ``docker compose`` and return what it printed."""
        files = [word for file in FILES for word in ("-f", str(ROOT / file))]
        place = ["--project-directory", str(ROOT), "-p", self.name]
        own = {
            "KAFKA_PORT": str(self.kafka_port),
            "REDIS_PORT": str(self.redis_port),
            "SHIFTER_NAMESPACE": "relay",
            "COMPOSE_PROGRESS": "plain",
        }
        if not quiet:
            _say(f"docker compose {' '.join(arguments)}")
        done = subprocess.run(
            ["docker", "compose", *place, *files, *arguments],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.stderr.write(done.stdout[-6_000:] + done.stderr[-6_000:])
        done.check_returncode()
        return done.stdout

    def shifter(self, *arguments: str) -> str:
        """Run ``shifter`` on this machine, against the project's ports."""
        done = self._shifter(*arguments)
        if done.returncode:
            raise AssertionError(f"shifter {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    def job(self, job_id: str) -> dict[str, Any]:
        """What ``shifter job show`` says; empty while nothing is known."""
        done = self._shifter("job", "show", job_id, "--json")
        return {} if done.returncode else dict(json.loads(done.stdout))

    def delivered(self) -> list[dict[str, Any]]:
        """Requests that the target got."""
        log = self.compose("logs", "--no-log-prefix", "sink", quiet=True)
        return [json.loads(line) for line in log.splitlines() if line.startswith("{")]

    def services(self) -> dict[str, dict[str, Any]]:
        """What compose says of each container, ended ones too."""
        lines = self.compose("ps", "--all", "--format", "json", quiet=True).splitlines()
        found = [json.loads(line) for line in lines]
        return {service["Service"]: service for service in found}

    def _shifter(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("shifter"), *arguments],
            env=self.host_env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def _tell_end(self) -> None:
        if sys.exc_info()[0] is not None:
            sys.stderr.write(self.compose("logs", "--tail", "40"))


def _answers() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = (["docker", "info"], ["docker", "compose", "version"])
    done = [subprocess.run(words, capture_output=True, check=False) for words in asked]
    return all(one.returncode == 0 for one in done)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(count)
        ]
        return [one.getsockname()[1] for one in held]


def _say(text: str) -> None:
    sys.stderr.write(f"compose-test: {text}\n")
