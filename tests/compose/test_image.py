"""The image's file list, without an engine: what is copied is there, and suffices."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.compose import image

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
IGNORED = (ROOT / ".dockerignore").read_text("utf-8")


@pytest.fixture(scope="module")
def files() -> list[str]:
    """What the builder is given."""
    return image.context(image.tracked(), IGNORED)


def test_everything_that_the_dockerfile_copies_is_in_the_context(files, tmp_path):
    stages = image.stages(DOCKERFILE)

    missing = [image.copied(stage, files, tmp_path / stage.name) for stage in stages]

    assert [stage.name for stage in stages] == ["wheel", "1"]
    assert missing == [[], []]


def test_wheel_of_the_image_is_the_wheel_of_the_repository(files, tmp_path):
    build, *_ = image.stages(DOCKERFILE)
    image.copied(build, files, tmp_path / "copied")
    whole = tmp_path / "whole"
    for file in image.tracked():
        (whole / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, whole / file)

    made = image.wheel(tmp_path / "copied", tmp_path / "one")

    assert made == image.wheel(whole, tmp_path / "two")
    assert {"shifter/cli/__main__.py", "pytest_shifter.py"} <= set(made)


def test_programs_of_the_workers_folder_are_all_in_the_image(files, tmp_path):
    *_, run = image.stages(DOCKERFILE)
    image.copied(run, files, tmp_path)

    here = {path.name for path in (ROOT / "workers").glob("*.py")}
    assert {path.name for path in (tmp_path / "workers").iterdir()} >= here


def test_a_file_that_is_left_out_is_noticed(files, tmp_path):
    build, *_ = image.stages(DOCKERFILE)
    fewer = [file for file in files if file != "pytest_shifter.py"]

    assert image.copied(build, fewer, tmp_path) == ["pytest_shifter.py"]


@pytest.mark.parametrize(
    ("file", "is_in"),
    [
        ("shifter/api/app.py", True),
        ("shifter/__pycache__/app.pyc", False),
        ("shifter/deep/er/x.pyc", False),
        ("tests/conftest.py", False),
        ("README.md", True),
        ("docs/README.md", False),
        (".stack/kafka", False),
    ],
)
def test_dockerignore_lets_through_what_the_image_is_made_of(file, is_in):
    assert (image.context([file], IGNORED) == [file]) is is_in


def test_every_requirement_file_that_the_dockerfile_installs_pins_hashes(files):
    for name in re.findall(r"--require-hashes -r (\S+)", DOCKERFILE):
        assert name in files
        assert "--hash=sha256:" in (ROOT / name).read_text("utf-8")


def test_the_image_has_what_the_commands_of_the_manifests_need():
    installed = (ROOT / "requirements" / "run.txt").read_text("utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]

    # `shifter scaler` needs grpc.
    for needed in extras["grpc"]:
        name = re.split(r"[<>=]", needed)[0]
        assert re.search(rf"^{name}==", installed, re.MULTILINE), name


def test_dockerfile_starts_the_command_that_the_package_installs():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    [entry] = re.findall(r'^ENTRYPOINT \["(\w+)"\]', DOCKERFILE, re.MULTILINE)

    assert entry in scripts["scripts"]


def test_images_of_the_compose_file_are_pinned_to_a_release():
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")

    foreign = [name for name in image.images(compose) if name != "shifter:local"]

    assert len(foreign) == 2
    assert all(re.search(r":\d+\.\d+\.\d+(-|$)", name) for name in foreign), foreign
