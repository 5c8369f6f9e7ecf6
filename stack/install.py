"""Gets the servers: Kafka's published jars through Maven, redis-server through apt.

The jars are compared with ``jars.sha256`` before anything is run from them. Where a
server cannot be had, `Missing` says so in one line.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HOME = HERE.parent / ".stack"
LIBS = HOME / "libs-4.3.1"
_SUMS = HERE / "jars.sha256"


class Missing(Exception):
    """A server cannot be had; the message says why, in one line."""


def kafka_libs() -> Path:
    """The folder of Kafka's jars, fetched and verified on first use.

    Raises:
        Missing: No JVM or no Maven, the jars cannot be fetched, or they differ.
    """
    if shutil.which("java") is None:
        raise Missing("no Kafka: there is no JVM (java) on the path")
    if (LIBS / ".verified").exists():
        return LIBS
    if shutil.which("mvn") is None:
        raise Missing("no Kafka: its jars come through Maven (mvn), which is not there")
    _say("fetching Kafka's jars through Maven")
    fetched = subprocess.run(
        [
            *("mvn", "-q", "-B", "-C", "-f", str(HERE / "pom.xml")),
            *("dependency:copy-dependencies", f"-DoutputDirectory={LIBS}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode:
        last = (fetched.stdout.strip() or fetched.stderr.strip()).splitlines()[:1]
        raise Missing(f"no Kafka: Maven could not fetch its jars: {last}")
    _verify()
    (LIBS / ".verified").touch()
    return LIBS


def redis_server() -> str:
    """The path of redis-server, installed through apt-get where that is possible.

    Raises:
        Missing: It is not there and cannot be installed.
    """
    found = shutil.which("redis-server")
    if found is not None:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing("no Redis: there is no redis-server on the path")
    _say("installing redis-server")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "redis-server"],
    ):
        subprocess.run(command, env=environment, capture_output=True, check=False)
    found = shutil.which("redis-server")
    if found is None:
        raise Missing("no Redis: apt-get could not install redis-server")
    return found


def write_sums() -> None:
    """Note the sums of the jars that are there: for whoever raises the version."""
    lines = [f"{_sum(jar)}  {jar.name}" for jar in sorted(LIBS.glob("*.jar"))]
    _SUMS.write_text("\n".join(lines) + "\n")


def _verify() -> None:
    wanted = dict(
        reversed(line.split("  ")) for line in _SUMS.read_text().splitlines() if line
    )
    found = {jar.name: _sum(jar) for jar in LIBS.glob("*.jar")}
    wrong = {name for name in wanted | found if wanted.get(name) != found.get(name)}
    if wrong:
        raise Missing(f"no Kafka: jars differ from jars.sha256: {sorted(wrong)[:3]}")


def _sum(jar: Path) -> str:
    return hashlib.sha256(jar.read_bytes()).hexdigest()


def _say(text: str) -> None:
    sys.stderr.write(f"stack: {text}\n")
    sys.stderr.flush()
