"""Small libraries in C that are loaded before a program's own, made where they run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.torture.faults.fault import Cannot


def library(name: str, folder: Path) -> Path:
    """Compile the source of that name beside this module into a folder.

    Raises:
        Cannot: There is no C compiler here.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Cannot("no C compiler (cc) on the path")
    source, made = Path(__file__).with_name(f"{name}.c"), folder / f"{name}.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(source)]
    subprocess.run(command, check=True)
    return made
