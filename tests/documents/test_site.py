"""The site of `make docs`: strict about what it should be, and asks no other host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.documents.blocks import ROOT

MKDOCS = ROOT / ".venv-docs" / "bin" / "mkdocs"
FAULTY = """\
# Faulty

[a dead link](nowhere.md), [a dead anchor](index.md#nowhere)

<img src="https://elsewhere.example/picture.png" alt="">
"""
UNDOCUMENTED = """

class NobodysWord:
    value: int = 0
"""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of all that the site is made of."""
    if not MKDOCS.exists():
        if os.environ.get("CI"):
            pytest.fail("`make docs` has not run")
        pytest.skip("`make docs` makes .venv-docs")
    for name in ("Makefile", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv-docs").symlink_to(ROOT / ".venv-docs")
    for name in ("docs", "docs_build", "shifter"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """`make docs`, with the environment that is there."""
    return subprocess.run(
        ["make", "--old-file", ".venv-docs/.made", "docs"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=220,
    )


def test_strict_build_names_each_fault_that_is_planted(folder):
    (folder / "docs" / "faulty.md").write_text(FAULTY)
    with (folder / "shifter" / "errors.py").open("a") as module:
        module.write(UNDOCUMENTED)

    done = build(folder)

    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "faulty.md" in said.partition('not included in the "nav"')[2]
    assert "contains a link 'nowhere.md'" in said
    assert "does not contain an anchor '#nowhere'" in said
    assert "shifter.errors.NobodysWord has no docstring" in said
    assert "faulty.md loads https://elsewhere.example/picture.png" in said


def test_pages_of_the_site_load_nothing_from_another_host(folder):
    done = build(folder)

    assert done.returncode == 0, done.stdout + done.stderr
    site = folder / "build" / "site"
    pages = list(site.rglob("*.html"))
    loads = re.compile(
        r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"'> ]+)"
    )
    assert len(pages) > 30
    assert {a for page in pages for a in loads.findall(page.read_text())} == set()
    assert "States of a circuit" in (site / "explanation" / "states.html").read_text()
