"""What the pages name exists: links, files, symbols, settings, metrics, options."""

from __future__ import annotations

import importlib
import re
from functools import cache

import pytest

from shifter.config.settings import OPTIONS
from tests.documents.blocks import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "workers/*.md",
        "schemas/*.md",
        "examples/**/*.md",
    )
    for path in ROOT.glob(pattern)
)
# Said to be gone, or another program's.
GONE = {"shifter_deferred_total"}
FOREIGN_OPTIONS = {
    *("--build", "--wait", "--out", "--root-path", "--require-hashes", "--strict"),
    *("--speedup", "--slots", "--processes", "--fleet", "--quick"),
}


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


@cache
def code() -> str:
    """All source of the product and what is beside it."""
    folders = ("shifter", "workers", "stack", "benchmarks", "examples")
    files = [f for folder in folders for f in (ROOT / folder).rglob("*.py")]
    return "\n".join(file.read_text("utf-8") for file in files)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", text_of(page))

    folder = (ROOT / page).parent
    assert [link for link in links if not (folder / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    names = re.findall(
        r"`((?:tests|shifter|workers|examples|docs|stack|benchmarks|schemas)/[\w./-]+)`",
        text_of(page),
    )

    assert [name for name in names if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_symbols_that_a_page_names_exist(page):
    names = set(re.findall(r"`(shifter(?:\.[A-Za-z_]\w*)+)(?:\(|`)", text_of(page)))

    assert sorted(name for name in names if not exists(name)) == []


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute reached from one."""
    parts = name.split(".")
    if name.endswith(".toml"):
        return True
    for at in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:at]))
        except ImportError:
            continue
        for part in parts[at:]:
            if not has(found, part):
                return False
            found = getattr(found, part, None)
        return True
    return False


def has(owner: object, name: str) -> bool:
    fields = getattr(owner, "__annotations__", {})
    slots = getattr(owner, "__slots__", ())
    return (
        hasattr(owner, name) or name in fields or name in slots or is_set(owner, name)
    )


def is_set(owner: object, name: str) -> bool:
    """Whether the class says that it has such an attribute, or sets it."""
    return isinstance(owner, type) and bool(
        re.search(rf"^\s+{name}: |self\.{name}\b", code(), re.MULTILINE)
    )


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_a_page_names_are_read(page):
    known = {f"SHIFTER_{option.name.upper()}" for option in OPTIONS}
    known |= {f"{name}_FILE" for name in known} | {"SHIFTER_NAMESPACE"}
    names = set(re.findall(r"\b((?:SHIFTER|RELAY)_[A-Z_]*[A-Z])\b", text_of(page)))

    wrong = {n for n in names - known if n not in code() and "KAFKA__" not in n}
    assert wrong == set()


@pytest.mark.parametrize("page", PAGES)
def test_metrics_that_a_page_names_are_written(page):
    names = set(re.findall(r"`(shifter_[a-z_]+)", text_of(page))) - GONE

    missing = {name for name in names if stem(name) not in code()}
    assert missing - {"shifter_app"} == set()


def stem(name: str) -> str:
    return re.sub(r"_(?:total|seconds|info|bucket|count|sum)$", "", name)


@pytest.mark.parametrize("page", PAGES)
def test_options_that_a_page_names_are_options(page):
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"`[^`\n]*?(--[a-z][a-z-]+)", prose)) - FOREIGN_OPTIONS

    # A parameter of a verb's function, or an option of a program beside it.
    missing = {
        name
        for name in names
        if f'"{name}"' not in code()
        and not re.search(rf"\b{name[2:].replace('-', '_')}_?: ", code())
    }
    assert missing == set()
