"""Java programs of other projects: jars through Maven, compiled when a test asks.

The jars are compared with ``jars.sha256`` before anything is run from them. To raise a
version: change ``pom.xml``, remove ``.stack/foreign-*``, and write the sums anew.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from stack.errors import Missing
from stack.home import HOME, locked
from stack.install import check_jars

HERE = Path(__file__).resolve().parent
SUMS = HERE / "jars.sha256"


def class_path() -> str:
    """Where the compiled program and its jars are; made where they are not there.

    Raises:
        Missing: No JDK, no Maven, or Maven cannot fetch the jars.
        StackError: A jar is not the one that was pinned.
    """
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            raise Missing(f"no foreign dead letters: there is no {tool} on the path")
    digest = hashlib.sha256(SUMS.read_bytes()).hexdigest()[:12]
    folder = HOME / f"foreign-{digest}"
    with locked("foreign"):
        if not folder.is_dir():
            _fetch(folder)
    jars = check_jars(folder, SUMS.read_text())
    return ":".join(map(str, jars))


def compile_program(folder: Path) -> str:
    """Compile ``Park`` into a folder; its class path."""
    path = class_path()
    source = str(HERE / "Park.java")
    subprocess.run(
        ["javac", "-nowarn", "-cp", path, "-d", str(folder), source],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return f"{folder}:{path}"


def _fetch(folder: Path) -> None:
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-C", "-f", str(HERE / "pom.xml")]
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={draft}"]
    fetched = subprocess.run(
        [*command, *goal], capture_output=True, text=True, check=False
    )
    if fetched.returncode:
        last = (fetched.stdout.strip() or fetched.stderr.strip()).splitlines()[:1]
        raise Missing(f"no foreign dead letters: Maven could not fetch jars: {last}")
    # The name it is used by appears only after all are checked.
    check_jars(draft, SUMS.read_text())
    draft.rename(folder)
