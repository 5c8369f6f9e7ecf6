"""The pytest plugin of shifter: one fixture, and nothing loaded before it is used.

A module of its own beside the package, since importing a part of ``shifter`` imports
the package, and every pytest run of the environment imports this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from shifter.testing import OpenApp, TestApp


@pytest.fixture
def shifter_app() -> Iterator[OpenApp]:
    """What opens an app for the length of a test.

    Takes what `shifter.testing.TestApp` takes and closes it after the test, which may
    be ``async`` or not.
    """
    from shifter.testing import TestApp  # noqa: PLC0415  # only where it is used

    with contextlib.ExitStack() as opened:

        def open_app(*args: object, **options: object) -> TestApp:
            # The arguments are checked by `TestApp` itself.
            test = TestApp(*args, **options)  # type: ignore[arg-type]
            return opened.enter_context(test)

        yield open_app
