"""The code of others is the published one, with its licence beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import shifter.web

FOLDER = Path(shifter.web.__file__).parent / "static" / "vendor"
DIGESTS = {
    "htmx-ext-sse.min.js": "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "uplot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
}


def test_every_file_is_pinned():
    code = {path.name for path in FOLDER.iterdir() if path.suffix in (".js", ".css")}

    assert code == set(DIGESTS)


@pytest.mark.parametrize("name", DIGESTS)
def test_a_file_is_unchanged_named_in_the_readme_and_licensed(name):
    digest = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()

    assert digest == DIGESTS[name]
    assert f"`{name}`" in (FOLDER / "README.md").read_text("utf-8")
    assert (FOLDER / f"{name.partition('.min')[0]}.LICENSE").is_file()
