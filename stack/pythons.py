"""The tests that need no server, on every Python that is supported.

``python -m stack.pythons [VERSION…] [-- PYTEST_OPTION…]``. An interpreter is one on
the path, one of pyenv, or the one of a Debian release in a tree of its own
(``debootstrap``, as root; sid has the newest). What cannot be had is said in one line,
and a failure where ``CI`` is set. Everything is kept under ``build/pythons``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stack.errors import Missing

VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
"""Those that ``pyproject.toml`` declares, oldest first."""

SUITES: Final = {"3.11": "bookworm", "3.13": "trixie", "3.14": "sid"}
"""Debian releases whose ``python3`` it is."""

ROOT: Final = Path(__file__).resolve().parents[1]
BUILD: Final = ROOT / "build" / "pythons"

# For the tests: git lists files, the pages type curl and make, screens need terminals.
_PACKAGES: Final = (
    *("python3", "python3-venv", "ca-certificates", "git", "make", "curl", "procps"),
    *("ncurses-base", "ncurses-term"),
)
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_INSTALL: Final = (
    '"$0" -m venv --clear "$1" && cd "$2" && '
    '"$1/bin/python" -m pip install -q --disable-pip-version-check '
    "--require-hashes -r requirements/dev.txt && "
    '"$1/bin/python" -m pip install -q --disable-pip-version-check '
    "--no-deps --no-build-isolation -e ."
)
# In a mount namespace of its own, so that nothing stays mounted whatever happens.
_IN_TREE: Final = (
    'mount --bind "$0" "$0" && mount -t proc proc "$0/proc" '
    '&& mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
)


def interpreter(version: str) -> Path | None:
    """An interpreter of this machine; ``None`` where there is none."""
    on_path = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        Path(sys.executable),
        *([] if on_path is None else [Path(on_path)]),
        *sorted(pyenv.glob(f"{version}.*/bin/python3"), reverse=True),
    ]
    asked = "import ssl, sqlite3, sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        done = subprocess.run(
            [candidate, "-c", asked], capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None


def run(version: str, options: Sequence[str]) -> int:
    """Run pytest on a version; its exit code.

    Raises:
        Missing: No interpreter of that version can be had.
    """
    found = interpreter(version)
    if found is not None:
        return _run_here(version, found, options)
    suite = SUITES.get(version)
    if suite is None or os.geteuid() or shutil.which("debootstrap") is None:
        raise Missing(f"no Python {version}: none here, and no Debian tree to make")
    return _run_in_tree(_tree(suite), options)


def _run_here(version: str, python: Path, options: Sequence[str]) -> int:
    folder = BUILD / version
    # Which Python and which requirements it was made of.
    made, stamp = folder / ".made", _stamp(python)
    if not made.exists() or made.read_text() != stamp:
        subprocess.run(["sh", "-c", _INSTALL, python, folder, ROOT], check=True)
        made.write_text(stamp)
    return subprocess.run(
        [folder / "bin" / "python", "-m", "pytest", *options], cwd=ROOT, check=False
    ).returncode


def _stamp(python: Path | str) -> str:
    return f"{python}\n{(ROOT / 'requirements' / 'dev.txt').read_text()}"


def _tree(suite: str) -> Path:
    """A Debian tree with this release's Python, made at first."""
    tree = BUILD / f"debian-{suite}"
    if (tree / ".made").exists():
        return tree
    shutil.rmtree(tree, ignore_errors=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    packages = ",".join(_PACKAGES)
    options = ["--variant=minbase", f"--include={packages}"]
    command = ["debootstrap", *options, suite, str(tree)]
    log = BUILD / f"debian-{suite}.log"
    with log.open("w") as out:
        done = subprocess.run(command, stdout=out, stderr=out, check=False)
    if done.returncode:
        raise Missing(f"no Debian tree of {suite}: debootstrap failed, see {log}")
    for file in (_CERTIFICATES, Path("/etc/pip.conf"), Path("/etc/resolv.conf")):
        if file.exists():
            shutil.copyfile(file, tree / str(file).lstrip("/"))
    (tree / ".made").touch()
    return tree


def _run_in_tree(tree: Path, options: Sequence[str]) -> int:
    source = tree / "src"
    _copy(source)
    made, stamp = tree / ".venv-made", _stamp(tree.name)
    if not made.exists() or made.read_text() != stamp:
        words = ["sh", "-c", _INSTALL, "/usr/bin/python3", "/venv", "/src"]
        _in_tree(tree, words).check_returncode()
        made.write_text(stamp)
    # What `make` calls in a test finds the environment in its usual place.
    inside = (
        "cd /src && mkdir .venv && ln -s /venv/* .venv/ && touch .venv/.made .venv/.run"
        ' && exec /venv/bin/python -m pytest "$@"'
    )
    return _in_tree(tree, ["sh", "-c", inside, "sh", *options]).returncode


def _in_tree(tree: Path, words: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", _IN_TREE, tree, *words],
        env={**os.environ, "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
        check=False,
    )


def _copy(target: Path) -> None:
    """The repository's files as they are now; a repository of their own again."""
    shutil.rmtree(target, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=target, check=True)


def main(words: Sequence[str]) -> int:
    """Run what the command line names, one version after another."""
    named, options = list(words), []
    if "--" in named:
        at = named.index("--")
        named, options = named[:at], named[at + 1 :]
    ended = {}
    for version in named or VERSIONS:
        print(f"--- Python {version}", flush=True)
        try:
            code = run(version, options)
            ended[version] = "passed" if code == 0 else f"pytest ended with {code}"
        except Missing as reason:
            ended[version] = (
                f"{'failed' if os.environ.get('CI') else 'skipped'}: {reason}"
            )
    for version, end in ended.items():
        print(f"Python {version}: {end}")
    return int(any(not end.startswith(("passed", "skipped")) for end in ended.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
