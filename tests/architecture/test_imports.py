"""The import contracts hold, and each is broken by an import that it forbids."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.scan import ROOT

CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONTRACTS = CONFIG["tool"]["importlinter"]["contracts"]
PLANTED = {
    "Layers: arrows point down only": ("errors.py", "import shifter.model.lane"),
    "The policy core does no I/O": ("policy/bounds.py", "import asyncio"),
    "Rooms of the policy core: arrows point down only": (
        "policy/delivery/backoff.py",
        "import shifter.policy.protection.rate",
    ),
    "Only adapters import vendors": ("ports/log.py", "import redis"),
    "Adapters do not import each other": (
        "adapters/memory/log.py",
        "import shifter.adapters.kafka.config",
    ),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of the project on the package in a folder."""
    program = (
        "import sys; from importlinter.cli import lint_imports; "
        f"sys.exit(lint_imports({str(ROOT / 'pyproject.toml')!r}, "
        "no_cache=True, no_logo=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def broken(output: str) -> set[str]:
    return set(re.findall(r"^(.+) BROKEN$", output, re.MULTILINE))


def test_the_import_contracts_are_kept():
    result = lint(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr
    assert len(re.findall(r" KEPT$", result.stdout, re.MULTILINE)) == len(CONTRACTS)


@pytest.mark.parametrize(("contract", "planted"), PLANTED.items(), ids=PLANTED)
def test_one_planted_import_breaks_its_contract_and_no_other(
    contract, planted, tmp_path
):
    ignored = shutil.ignore_patterns("__pycache__", "*.lua")
    shutil.copytree(ROOT / "shifter", tmp_path / "shifter", ignore=ignored)
    file, line = planted
    with (tmp_path / "shifter" / file).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")

    result = lint(tmp_path)

    assert result.returncode == 1, result.stderr
    assert broken(result.stdout) == {contract}


def test_every_contract_has_a_planted_import():
    assert {contract["name"] for contract in CONTRACTS} == set(PLANTED)


ROOMS = sorted(
    path.stem
    for path in (ROOT / "shifter").iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
    if path.stem not in ("__init__", "__main__")
)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_stands_in_a_layer(room):
    layers = next(c["layers"] for c in CONTRACTS if c["type"] == "layers")
    placed = {name.strip() for layer in layers for name in layer.split("|")}

    assert f"shifter.{room}" in placed


def test_no_room_but_adapters_may_import_a_vendor():
    kept_out = {
        room
        for contract in CONTRACTS
        if {"confluent_kafka", "redis", "sqlite3"}
        <= set(contract.get("forbidden_modules", ()))
        for room in contract["source_modules"]
    }

    assert kept_out == {f"shifter.{room}" for room in ROOMS if room != "adapters"}
