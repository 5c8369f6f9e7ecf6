"""Reads source as text and syntax; each scan returns what it found wrong.

The scans are functions of text, so that a test can plant a fault and see it found.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

Scan = Callable[[str], list[str]]

UNSAFE_MODULES = {
    "cloudpickle",
    "dill",
    "jsonpickle",
    "marshal",
    "pickle",
    "shelve",
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_YAML = {"load", "load_all", "full_load", "unsafe_load"}
EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "core", "misc"}
IMPORTS_BY_NAME = {"import_module", "find_spec", "spec_from_file_location"}


def sources(*folders: str) -> Iterator[Path]:
    """All Python files below folders of the project, ascending."""
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def findings(paths: Iterable[Path], scan: Scan) -> list[str]:
    """What a scan finds in files, as ``path:finding``."""
    return [
        f"{path.relative_to(ROOT)}:{finding}"
        for path in paths
        for finding in scan(path.read_text("utf-8"))
    ]


def missing_docstring(source: str) -> list[str]:
    """Whether a module says what it is for."""
    return [] if ast.get_docstring(ast.parse(source)) else ["1: no docstring"]


def longer_than(lines: int) -> Scan:
    """Whether a module is longer than that; the line itself is allowed."""

    def scan(source: str) -> list[str]:
        found = len(source.splitlines())
        return [f"{found} lines, allowed {lines}"] if found > lines else []

    return scan


def empty_names(path: Path) -> list[str]:
    """Parts of a path that say nothing."""
    return [part for part in (*path.parts[:-1], path.stem) if part in EMPTY_NAMES]


def unsafe_code(source: str) -> list[str]:
    """Imports and calls that turn data into code."""
    found = [
        f"{line}: import {module}"
        for line, module, _ in _imports(source)
        if module.split(".")[0] in UNSAFE_MODULES
    ]
    for line, owner, name in _calls(source):
        if owner is None and name in UNSAFE_CALLS:
            found.append(f"{line}: {name}()")
        if owner == "yaml" and name in UNSAFE_YAML:
            found.append(f"{line}: yaml.{name}()")
    return found


def imports_by_name(source: str) -> list[str]:
    """Calls that import what a string names."""
    return [
        f"{line}: {name}()"
        for line, _, name in _calls(source)
        if name in IMPORTS_BY_NAME
    ]


def beside_the_door(door: Iterable[str]) -> Scan:
    """Imports of anything of shifter's that is not offered at its door.

    Args:
        door: Names that may be imported from ``shifter``.
    """
    offered = {*door, None}

    def scan(source: str) -> list[str]:
        return [
            f"{line}: {module}" if name is None else f"{line}: {module}.{name}"
            for line, module, name in _imports(source)
            if module.split(".")[0] == "shifter"
            and (module != "shifter" or name not in offered)
        ]

    return scan


def real_sleeps(source: str) -> list[str]:
    """Calls of the real ``sleep`` with anything but a literal 0."""
    sleeps = {
        name
        for _, module, name in _imports(source)
        if module in ("asyncio", "time") and name == "sleep"
    }
    tree = ast.parse(source)
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        owner, name = _called(call)
        is_sleep = name == "sleep" and (
            owner in ("asyncio", "time") or (owner is None and name in sleeps)
        )
        is_yield = (
            owner != "time"
            and len(call.args) == 1
            and isinstance(call.args[0], ast.Constant)
            and call.args[0].value == 0
        )
        if is_sleep and not is_yield:
            found.append(f"{call.lineno}: {ast.unparse(call)}")
    return found


def _imports(source: str) -> Iterator[tuple[int, str, str | None]]:
    """Line, module and name of every import, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, "." * node.level + (node.module or ""), alias.name


def _calls(source: str) -> Iterator[tuple[int, str | None, str]]:
    """Line, owner and name of every call of a name or of a module's attribute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            owner, name = _called(node)
            if name is not None:
                yield node.lineno, owner, name


def _called(call: ast.Call) -> tuple[str | None, str | None]:
    if isinstance(call.func, ast.Name):
        return None, call.func.id
    if isinstance(call.func, ast.Attribute):
        owner = call.func.value
        return (owner.id if isinstance(owner, ast.Name) else "", call.func.attr)
    return None, None
