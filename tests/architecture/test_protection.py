"""`shifter.protection` has every policy that the public API takes, and only those."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, get_args, get_type_hints

import shifter.protection as facade
from shifter import Shifter
from shifter.policy.protection.dependency import DependencyOptions
from tests.architecture.scan import ROOT

_PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


def policies_in(hint: Any) -> set[type]:
    """Dataclasses of the policy core that a type hint names, and their fields'."""
    found: set[type] = set()
    for part in (hint, *get_args(hint)):
        if part is not hint and get_args(part):
            found |= policies_in(part)
        is_policy = inspect.isclass(part) and part.__module__.startswith("shifter.poli")
        if is_policy and dataclasses.is_dataclass(part):
            found.add(part)
            for inner in get_type_hints(part).values():
                found |= policies_in(inner)
    return found


def test_every_policy_that_the_public_api_takes_is_in_the_facade():
    taken = set[type]()
    for place in (Shifter.__init__, DependencyOptions):
        for hint in get_type_hints(place).values():
            taken |= policies_in(hint)

    public = {getattr(facade, name) for name in facade.__all__}

    assert taken <= public
    assert public - taken == {facade.FailureCause, facade.Protection}


def test_the_facade_lists_its_names_in_order_and_defines_none():
    assert facade.__all__ == sorted(facade.__all__)
    for name in facade.__all__:
        assert getattr(facade, name).__module__.startswith("shifter.policy.")


def test_no_page_imports_from_the_policy_core():
    offenders = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in _PAGES
        for line in page.read_text("utf-8").splitlines()
        if re.match(r"\s*(from|import) shifter\.policy\b", line)
    ]

    assert offenders == []
