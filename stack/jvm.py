"""How a broker's JVM is started, and the two things made once that make it quick.

The *template* is a data folder that was formatted once; a copy with its own ids saves
almost a second of JVM for each broker. The *archive* (AppCDS) holds the loaded classes
and halves the rest. It fits only the JDK and class path it was made with, so its name
carries both; where there is none, brokers start without.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from stack.errors import StackError
from stack.home import HOME, locked
from stack.install import kafka_jars, kafka_version

LOG4J: Final = Path(__file__).resolve().parent / "log4j2.properties"
"""What a broker writes to its log."""
_ONCE: Final = "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"
# One compiler starts sooner and runs slower: right for tests, wrong for throughput. A
# whole run makes thousands of partitions on one broker, and 256 MiB are full then.
_QUICK: Final = ["-Xms64m", "-Xmx1g", *_ONCE]
_FAST: Final = ["-Xms512m", "-Xmx512m", "-XX:+UseSerialGC"]


def broker_options(*, fast: bool) -> list[str]:
    """Options of a broker's JVM, with the class archive where there is one.

    Args:
        fast: For throughput, not for a quick start.
    """
    options = [*(_FAST if fast else _QUICK), f"-Dlog4j2.configurationFile={LOG4J}"]
    if archive_path().exists():
        # the log options keep quiet about a page size or a heap that does not match
        options += [f"-XX:SharedArchiveFile={archive_path()}"]
        options += ["-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    return options


def training_options(archive: Path) -> list[str]:
    """Options of the broker that writes the class archive as it stops."""
    options = [*_QUICK, f"-Dlog4j2.configurationFile={LOG4J}"]
    return [*options, f"-XX:ArchiveClassesAtExit={archive}"]


def jvm_env() -> dict[str, str]:
    """The environment of a JVM; the class path is in sorted order.

    A wildcard would be expanded in the order of the folder, which another copy of the
    same jars need not have, and the archive would not fit.
    """
    return {**os.environ, "CLASSPATH": os.pathsep.join(map(str, kafka_jars()))}


@functools.cache
def archive_path() -> Path:
    """Where the class archive for this JDK and class path is, or would be."""
    paths = "\n".join(map(str, kafka_jars())).encode()  # says so if there is no JVM
    asked = ["java", "-version"]
    version = subprocess.run(asked, capture_output=True, check=False).stderr
    return HOME / f"kafka-{hashlib.sha256(version + paths).hexdigest()[:12]}.jsa"


def template() -> Path:
    """The data folder formatted once; made on first use."""
    made = HOME / f"template-{kafka_version()}"
    with locked("template"):
        if not made.is_dir():
            draft = HOME / "template.new"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            properties = HOME / "template.properties"
            properties.write_text(
                "process.roles=broker,controller\nnode.id=1\n"
                "controller.listener.names=CONTROLLER\n"
                "controller.quorum.voters=1@127.0.0.1:9093\n"
                "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093\n"
                f"log.dirs={draft}\n"
            )
            format_data(properties, "MkU3OEVBNTcwNTJENDM2Qg")
            draft.rename(made)
    return made


def format_data(
    properties: Path, cluster_id: str, users: Mapping[str, str] | None = None
) -> None:
    """Format the data folder that ``properties`` names, with SCRAM users if any.

    Raises:
        StackError: The tool refused.
    """
    scram: Sequence[str] = [
        part
        for name, password in (users or {}).items()
        for part in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
    ]
    command = [
        *("java", "-Xmx128m", *_ONCE, f"-Dlog4j2.configurationFile={LOG4J}"),
        *("kafka.tools.StorageTool", "format", "-t", cluster_id),
        *("-c", str(properties), *scram),
    ]
    done = subprocess.run(
        command, env=jvm_env(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError(f"could not format: {(done.stdout + done.stderr)[-2_000:]}")


def copy_data(formatted: Path, data: Path, ids: Mapping[str, str]) -> None:
    """Copy a formatted folder and give the copy other ids.

    Formatted folders differ only in the ids of ``meta.properties``. The rest (the
    bootstrap records) must stay: a broker starts without them, but then knows neither
    share groups nor the consumer group protocol.

    Args:
        formatted: Never used by a broker.
        data: Must not exist.
        ids: ``cluster.id``, ``node.id``, ``directory.id``.
    """
    shutil.copytree(formatted, data)
    meta = data / "meta.properties"
    pairs = [line.partition("=") for line in meta.read_text().splitlines()]
    lines = [
        f"{name}{sign}{ids.get(name, value) if sign else ''}\n"
        for name, sign, value in pairs
    ]
    meta.write_text("".join(lines))
