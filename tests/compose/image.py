"""What the Dockerfile asks of its context, and what .dockerignore lets through."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Stage(NamedTuple):
    """One build stage.

    Attributes:
        name: After ``AS``, or its number.
        copies: Sources in the context and their destination, in order.
    """

    name: str
    copies: list[tuple[list[str], str]]


def stages(dockerfile: str) -> list[Stage]:
    """The stages of a Dockerfile, with what each copies from the context."""
    found: list[Stage] = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        words = line.split()
        match words:
            case ["FROM", _, *rest]:
                found.append(Stage(rest[1] if rest else str(len(found)), []))
            case ["COPY" | "ADD", *rest] if not rest[0].startswith("--from"):
                *sources, target = [word for word in rest if not word.startswith("--")]
                found[-1].copies.append((sources, target))
    return found


def context(files: list[str], dockerignore: str) -> list[str]:
    """Those files that .dockerignore lets through: its last pattern that fits decides.

    A pattern fits a path, or a folder that the path lies in.
    """
    lines = [line.strip() for line in dockerignore.splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    return [file for file in files if _is_in(file, patterns)]


def tracked() -> list[str]:
    """Files of the repository that are there, whether committed yet or not."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [file for file in listed if (ROOT / file).is_file()]


def copied(stage: Stage, files: list[str], into: Path) -> list[str]:
    """Do what the stage's COPY lines do; returns the sources that are not there."""
    missing = []
    for sources, target in stage.copies:
        for source in sources:
            found = [f for f in files if f == source or f.startswith(f"{source}/")]
            missing += [] if found else [source]
            for file in found:
                # A folder's content goes to the target, a file into it.
                inner = Path(file).name if file == source else file[len(source) + 1 :]
                place = into / target / inner
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / file, place)
    return missing


def wheel(folder: Path, out: Path) -> list[str]:
    """Build a wheel as the Dockerfile does; returns the files in it."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", *options, folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    [made] = out.glob("*.whl")
    return sorted(zipfile.ZipFile(made).namelist())


def _is_in(file: str, patterns: list[str]) -> bool:
    is_in = True
    for pattern in patterns:
        if _fits(file, pattern.removeprefix("!").strip("/")):
            is_in = pattern.startswith("!")
    return is_in


def _fits(file: str, pattern: str) -> bool:
    parts, wanted = file.split("/"), pattern.split("/")
    starts = range(len(parts)) if wanted[0] == "**" else range(1)
    wanted = wanted[1:] if wanted[0] == "**" else wanted
    return any(
        len(parts) - at >= len(wanted)
        and all(map(fnmatch.fnmatchcase, parts[at:], wanted))
        for at in starts
    )


def images(compose: str) -> list[str]:
    """Images that a compose file names."""
    return re.findall(r"^\s*image:\s*(\S+)", compose, re.MULTILINE)
