"""Gets the servers: Kafka's published jars through Maven, redis-server through apt.

The jars are compared with ``jars.sha256`` before anything is run from them. Where a
server cannot be had, `Missing` says so in one line. To raise the version: change
``pom.xml``, remove ``.stack/libs-*``, run Maven by hand, then ``python -m stack sums``.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from stack.errors import Missing, StackError
from stack.home import HOME, locked

_HERE: Final = Path(__file__).resolve().parent
_POM: Final = _HERE / "pom.xml"
_SUMS: Final = _HERE / "jars.sha256"


def kafka_version() -> str:
    """The version that ``pom.xml`` pins."""
    found = re.search(r"<artifactId>kafka_.*?<version>([^<]+)<", _POM.read_text())
    if found is None:
        raise StackError("stack/pom.xml names no version of Kafka")
    return found[1]


@functools.cache
def kafka_jars() -> tuple[Path, ...]:
    """Kafka's jars in the order of the class path, fetched where they are not here.

    Raises:
        Missing: No JVM, no Maven, or Maven cannot fetch them.
        StackError: A jar is not the one that was pinned.
    """
    if shutil.which("java") is None:
        raise Missing("no Kafka: there is no JVM (java) on the path")
    folder = HOME / f"libs-{kafka_version()}"
    with locked("jars"):
        if not folder.is_dir():
            _fetch(folder)
    return tuple(check_jars(folder, _SUMS.read_text()))


def check_jars(folder: Path, sums: str) -> list[Path]:
    """The jars of a folder, by name.

    Args:
        folder: Where they are.
        sums: What they must be: lines of ``<sha256>  <name>``.

    Raises:
        StackError: One is missing, is there without being pinned, or differs.
    """
    pairs = [line.split() for line in sums.splitlines()]
    wanted = {name: digest for digest, name in pairs}
    found = {jar.name: _sum(jar) for jar in folder.glob("*.jar")}
    wrong = sorted(
        name for name in wanted | found if wanted.get(name) != found.get(name)
    )
    if wrong:
        shown = ", ".join(wrong[:3])
        raise StackError(
            f"jars differ from stack/jars.sha256: {shown} in {folder.name}"
        )
    return [folder / name for name in sorted(found)]


def redis_server() -> str:
    """The path of redis-server; `program` tells the errors."""
    return program("redis-server", package="redis-server", of="Redis")


def program(name: str, *, package: str, of: str) -> str:
    """The path of a program, installed through apt-get where that is possible.

    Args:
        name: Of the program.
        package: The Debian package that has it.
        of: What is missing without it, for a person.

    Raises:
        Missing: It is not there and cannot be installed.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"no {of}: there is no {name} on the path")
    # apt-get holds a lock of its own, and fails where another process has it
    with locked("apt"):
        if shutil.which(name) is None:
            _install(package)
    found = shutil.which(name)
    if found is None:
        raise Missing(f"no {of}: apt-get could not install {package}")
    return found


def _install(package: str) -> None:
    say(f"installing {package}")
    # run level 1: the package must not start a server of its own
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package],
    ):
        subprocess.run(command, env=environment, capture_output=True, check=False)


def write_sums() -> None:
    """Note the sums of the jars that are there: for a change of the version."""
    folder = HOME / f"libs-{kafka_version()}"
    lines = [f"{_sum(jar)}  {jar.name}" for jar in sorted(folder.glob("*.jar"))]
    _SUMS.write_text("\n".join(lines) + "\n")


def say(text: str) -> None:
    """Progress, for a person; standard output is for data."""
    print(f"stack: {text}", file=sys.stderr, flush=True)


def _fetch(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise Missing("no Kafka: its jars come through Maven (mvn), which is not there")
    say("fetching Kafka's jars through Maven")
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    fetched = subprocess.run(
        [
            # -C: a jar whose checksum is not the repository's ends the run
            *("mvn", "-q", "-B", "-C", "-f", str(_POM)),
            *("dependency:copy-dependencies", f"-DoutputDirectory={draft}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode:
        last = (fetched.stdout.strip() or fetched.stderr.strip()).splitlines()[:1]
        raise Missing(f"no Kafka: Maven could not fetch its jars: {last}")
    # the name it is used by appears only after all are checked
    check_jars(draft, _SUMS.read_text())
    draft.rename(folder)


def _sum(jar: Path) -> str:
    return hashlib.sha256(jar.read_bytes()).hexdigest()
