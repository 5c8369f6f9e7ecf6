"""The python blocks of every page: two type checkers accept them, and they run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.blocks import (
    PAGES,
    ROOT,
    blocks,
    pages_with_python,
    program_name,
    write_programs,
)

# What a page quotes from a source file; the file itself is checked and run.
QUOTED = {"CONTRIBUTING.md": "shifter/policy/delivery/backoff.py"}
WITH_PROGRAMS = [page for page in pages_with_python() if page not in QUOTED]
# Drawings and synopses stand behind no language; js needs a client of its own.
LANGUAGES = {"python", "console", "sh", "js", "json", ""}
PYTEST = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
# The embedded logs of the page's apps have their topics, as `topics apply` makes them.
RUN = """
import asyncio, importlib, sys
from shifter import Shifter
from shifter.cli.entry import run
page = importlib.import_module(sys.argv[1])
for name in [n for n, value in vars(page).items() if isinstance(value, Shifter)]:
    assert run(["topics", "apply", f"{sys.argv[1]}:{name}"]) == 0
for name in sorted(n for n in vars(page) if n.startswith("block_")):
    asyncio.run(getattr(page, name)())
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A folder with the programs of all pages."""
    folder = tmp_path_factory.mktemp("programs")
    for page in WITH_PROGRAMS:
        write_programs(page, folder)
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
    environment = {
        **kept,
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "MYPYPATH": f"{ROOT}{os.pathsep}{folder}",
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=220,
    )


def sources(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.py"))]


@pytest.mark.timeout(240)
def test_mypy_accepts_every_python_block_in_strict_mode(programs):
    options = ["--strict", "--explicit-package-bases", "--cache-dir", ".mypy"]

    done = run(programs, "-m", "mypy", *options, *sources(programs))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(240)
def test_pyright_accepts_every_python_block_in_strict_mode(programs):
    settings = {
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT)],
        # A page shows what there is to use, and does not use all of it.
        "reportUnusedVariable": False,
    }
    (programs / "pyrightconfig.json").write_text(json.dumps(settings))

    done = run(programs, "-m", "pyright", "--pythonpath", sys.executable, ".")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(240)
def test_pyright_accepts_and_rejects_what_mypy_does(tmp_path):
    """`tests/typing` is checked by mypy with the package; its marks hold here too."""
    settings = {
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT)],
        "reportUnnecessaryTypeIgnoreComment": True,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    for source in (ROOT / "tests" / "typing").glob("*.py"):
        (tmp_path / f"typed_{source.name}").write_text(source.read_text("utf-8"))

    done = run(tmp_path, "-m", "pyright", "--pythonpath", sys.executable, ".")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", WITH_PROGRAMS)
@pytest.mark.timeout(240)
def test_program_of_a_page_runs(page, tmp_path):
    write_programs("README.md", tmp_path)
    written = [
        str(path.relative_to(tmp_path)) for path in write_programs(page, tmp_path)
    ]
    (tmp_path / "pytest.ini").write_text(PYTEST)
    tests = [name for name in written if name.startswith("test_")]
    name = program_name(page)

    if f"{name}.py" in written:
        done = run(tmp_path, "-W", "error", "-c", RUN, name)
        assert done.returncode == 0, done.stdout + done.stderr
    if tests:
        # By name too: an environment made before the plugin was does not announce it.
        done = run(tmp_path, "-m", "pytest", "-q", "-p", "pytest_shifter", *tests)
        assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name}.py" in written or tests


def test_pages_are_found_and_have_programs():
    assert {"README.md", "docs/how-to/testing.md", "workers/README.md"} <= set(PAGES)
    assert len(WITH_PROGRAMS) >= 6
    assert {block.language for block in blocks()} <= LANGUAGES


@pytest.mark.parametrize("page", QUOTED)
def test_block_that_quotes_a_source_file_stands_in_it(page):
    source = (ROOT / QUOTED[page]).read_text("utf-8")

    for block in blocks("python", page=page):
        assert block.text in source


def test_block_that_does_not_type_check_would_be_seen(tmp_path):
    write_programs("README.md", tmp_path)
    program = tmp_path / "page_readme.py"
    text, count = re.subn(r"order_id=7", 'order_id="7"', program.read_text())
    program.write_text(text)

    done = run(tmp_path, "-m", "mypy", "--strict", "--cache-dir", ".mypy", str(program))

    assert count == 2
    assert 'incompatible type "str"; expected "int"' in done.stdout
