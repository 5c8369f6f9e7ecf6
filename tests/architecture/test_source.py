"""Rules of the house that a linter does not know, each tried on a planted fault."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.scan import (
    ROOT,
    beside_the_door,
    empty_names,
    findings,
    imports_by_name,
    longer_than,
    missing_docstring,
    real_sleeps,
    sources,
    unsafe_code,
)

IMPORTS_OPERATORS_MODULE = Path("shifter/api/load.py")


def door() -> list[str]:
    """Names in ``shifter.__all__``, read without importing anything."""
    tree = ast.parse((ROOT / "shifter" / "__init__.py").read_text("utf-8"))
    [names] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return list(names)


@pytest.mark.parametrize("folder", ["shifter", "tests/unit", "tests/property"])
def test_there_is_something_to_scan(folder):
    assert len(list(sources(folder))) > 5


def test_every_module_has_a_docstring():
    assert findings(sources("shifter", "stack", "workers"), missing_docstring) == []


def test_no_module_is_longer_than_a_reader_can_hold():
    assert findings(sources("shifter", "stack", "workers"), longer_than(400)) == []
    assert findings(sources("shifter/policy"), longer_than(250)) == []


def test_no_module_has_a_meaningless_name():
    named = {
        path.relative_to(ROOT): empty_names(path.relative_to(ROOT))
        for path in sources("shifter", "stack", "workers", "tests")
    }

    assert {path: found for path, found in named.items() if found} == {}


def test_data_never_becomes_code():
    assert findings(sources("shifter", "workers"), unsafe_code) == []


def test_only_the_operators_own_target_is_imported_by_name():
    """A name in a message never decides what is imported."""
    paths = [
        path
        for path in sources("shifter", "workers")
        if path.relative_to(ROOT) != IMPORTS_OPERATORS_MODULE
    ]

    assert findings(paths, imports_by_name) == []


def test_worker_programs_see_only_the_door():
    assert findings(sources("workers"), beside_the_door(door())) == []


def test_the_door_is_small():
    assert len(door()) <= 24


def test_tests_without_servers_never_really_sleep():
    assert findings(sources("tests/unit", "tests/property"), real_sleeps) == []


@pytest.mark.parametrize(
    "source", ["", "x = 1", "# a comment\nimport os", "f'''no docstring'''"]
)
def test_a_module_without_a_docstring_is_found(source):
    assert missing_docstring(source) == ["1: no docstring"]


def test_a_module_one_line_too_long_is_found():
    assert longer_than(2)("a\nb\n") == []
    assert longer_than(2)("a\nb\nc\n") == ["3 lines, allowed 2"]


@pytest.mark.parametrize(
    "path", ["shifter/utils.py", "shifter/fleet/base.py", "shifter/common/lane.py"]
)
def test_a_meaningless_name_is_found(path):
    assert len(empty_names(Path(path))) == 1


def test_a_name_that_merely_contains_one_is_fine():
    assert empty_names(Path("shifter/policy/baseline.py")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from marshal import loads",
        "def f():\n    import dill",
        "eval('1')",
        "x = [exec(s) for s in y]",
        "__import__('os')",
        "compile(s, 'f', 'exec')",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
    ],
)
def test_unsafe_code_is_found(source):
    assert len(unsafe_code(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import pickled_onions",
        "re.compile('x')",
        "yaml.safe_load(text)",
        "model.eval()",
        "'import pickle'",
    ],
)
def test_safe_code_is_left_alone(source):
    assert unsafe_code(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "importlib.import_module(name)",
        "from importlib import import_module\nimport_module(name)",
        "importlib.util.find_spec(name)",
    ],
)
def test_an_import_by_name_is_found(source):
    assert len(imports_by_name(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import shifter.api.app",
        "from shifter.api.app import Shifter",
        "from shifter import app",
        "from shifter import Shifter, policy",
        "from shifter import *",
        "def f():\n    from shifter.adapters.kafka import config",
    ],
)
def test_a_worker_that_looks_beside_the_door_is_found(source):
    assert len(beside_the_door(["Shifter", "Context"])(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import shifter",
        "from shifter import Context, Shifter",
        "import httpx",
        "from workers.http_target import checked_url",
        "import shifter_metrics",
    ],
)
def test_a_worker_at_the_door_is_left_alone(source):
    assert beside_the_door(["Shifter", "Context"])(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "await_ = asyncio.sleep(0.1)",
        "asyncio.sleep(delay)",
        "time.sleep(0)",
        "from time import sleep\nsleep(0)\nsleep(1)",
        "from asyncio import sleep\nsleep(1e-9)",
        "asyncio.sleep(delay=1)",
    ],
)
def test_a_real_sleep_is_found(source):
    assert real_sleeps(source)


@pytest.mark.parametrize(
    "source",
    [
        "asyncio.sleep(0)",
        "clock.sleep(5)",
        "self.clock.sleep(5)",
        "from asyncio import sleep\nsleep(0)",
        "def sleep(s): ...\nsleep(3)",
    ],
)
def test_a_step_of_the_loop_or_of_a_fake_clock_is_left_alone(source):
    assert real_sleeps(source) == []
