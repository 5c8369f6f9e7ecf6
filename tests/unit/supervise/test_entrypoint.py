"""Exit codes of a worker that cannot start, and when a burst is over."""

from __future__ import annotations

import pytest

from shifter.errors import ConfigError, StoreRefusedError, StoreUnavailableError
from shifter.ports import LaneDepth
from shifter.supervise import entrypoint
from shifter.supervise.entrypoint import drained


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailableError("log", "open", "away"), 69),
        (StoreRefusedError("log", "open", "denied"), 77),
        (ConfigError("log", "x", "a URL"), 78),
    ],
)
def test_exit_code_tells_the_supervisor_whether_to_start_again(error, code):
    assert entrypoint._exit_code(error) == code


def test_first_error_of_nested_groups_is_the_one_that_is_logged():
    error = StoreRefusedError("log", "open", "denied")
    group = BaseExceptionGroup("", [ExceptionGroup("", [error]), ValueError()])

    assert entrypoint._first(group) is error


class Looks:
    """A log admin that answers as scripted: how many jobs wait at each look."""

    def __init__(self, *waiting: int) -> None:
        self.left = list(waiting)

    async def depths(self, topics):
        return [LaneDepth(topics[0], self.left.pop(0), 0, None)]


async def test_lanes_are_drained_after_three_empty_looks_in_a_row(monkeypatch):
    monkeypatch.setattr(entrypoint, "_CHECK_EVERY_S", 0)
    looks, depths = Looks(1, 0, 0, 2, 0, 0, 0, 9), []

    await drained(looks, ["shop.default.normal"], depths=depths)

    assert looks.left == [9]
    assert [depth.waiting for depth in depths] == [0]
