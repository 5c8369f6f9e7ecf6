"""Overrides are values that a page or a scaler can set and read without the command."""

from __future__ import annotations

import pytest

from shifter import wiring
from shifter.adapters.memory.state import MemoryFleetStore
from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.model.lane import Priority
from shifter.ops.overrides import (
    Override,
    circuit_target,
    clear_override,
    quality_target,
    read_fleet,
    set_override,
    window_target,
)
from shifter.testing.clock import FakeClock

SETTINGS = Settings(namespace="shop")
TARGETS = {
    "circuit": (circuit_target("mailer"), "open"),
    "quality": (quality_target(), "MINIMAL"),
    "window": (window_target("mail", Priority.LOW, None), "closed"),
}


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    store = MemoryFleetStore(clock)
    monkeypatch.setattr(wiring, "open_fleet", lambda settings: store)
    return clock


def made(fleet, kind):
    """The override of one kind, as the fleet shows it."""
    if kind == "circuit":
        return [row.by_hand for row in fleet.circuits if row.by_hand is not None]
    if kind == "quality":
        return [] if fleet.quality.by_hand is None else [fleet.quality.by_hand]
    return [row.by_hand for row in fleet.windows]


@pytest.mark.parametrize("kind", TARGETS)
async def test_an_override_is_shown_with_its_owner_its_reason_and_its_end(clock, kind):
    target, to = TARGETS[kind]

    fleet = await set_override(SETTINGS, target, Override(to, "ann", "a drill", 60_000))

    [row] = made(fleet, kind)
    assert (row.to, row.owner, row.reason, row.left_s) == (to, "ann", "a drill", 60)


@pytest.mark.parametrize("kind", TARGETS)
async def test_an_override_ends_by_itself(clock, kind):
    target, to = TARGETS[kind]
    await set_override(SETTINGS, target, Override(to, "ann", "a drill", 60_000))

    clock.advance(60)

    assert made(await read_fleet(SETTINGS), kind) == []


@pytest.mark.parametrize("kind", TARGETS)
async def test_an_override_that_is_cleared_holds_no_more(clock, kind):
    target, to = TARGETS[kind]
    await set_override(SETTINGS, target, Override(to, "ann", "a drill", 60_000))

    fleet = await clear_override(SETTINGS, target)

    assert made(fleet, kind) == []
    assert made(await clear_override(SETTINGS, target), kind) == []


@pytest.mark.parametrize(
    ("kind", "to"), [("circuit", "MINIMAL"), ("quality", "open"), ("window", "FULL")]
)
async def test_a_target_refuses_the_values_of_another_kind(clock, kind, to):
    target, _ = TARGETS[kind]

    with pytest.raises(ConfigError, match="use one of"):
        await set_override(SETTINGS, target, Override(to, "ann", "a drill", 60_000))

    assert made(await read_fleet(SETTINGS), kind) == []
