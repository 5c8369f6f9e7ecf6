"""An order that a worker drain reaches that worker alone, once, while it lasts."""

from __future__ import annotations

import pytest

from shifter.fleet.drain_order import DrainOrder, drain_cell
from shifter.fleet.shared_state import OverrideCell, setting_text

UNTIL_MS = 5_000


def order(to: str = "drain") -> bytes:
    return setting_text(OverrideCell(to, "ann", "the host is replaced", UNTIL_MS))


def test_the_worker_that_is_named_obeys_once():
    seen = []
    mine, other = DrainOrder("w1", seen.append), DrainOrder("w2", seen.append)
    cells = {drain_cell("w1"): order()}

    for tenant in (mine, other, mine):
        tenant.learn(cells, 1_000)

    assert [(one.owner, one.reason) for one in seen] == [
        ("ann", "the host is replaced")
    ]
    assert list(mine.propose()) == []


@pytest.mark.parametrize(
    ("text", "now_ms"),
    [
        (order(), UNTIL_MS),
        (order("open"), 1_000),
        (b"\xff", 1_000),
        (b'{"to": "drain"}', 1_000),
        (b"[" * 5_000, 1_000),
    ],
    ids=["over", "another word", "no text", "half", "deep"],
)
def test_what_is_no_order_that_lasts_drains_nobody(text, now_ms):
    seen = []

    DrainOrder("w1", seen.append).learn({drain_cell("w1"): text}, now_ms)

    assert seen == []
