"""An operator drains an endpoint and restores it."""

from __future__ import annotations

import msgspec
import pytest

from shifter import wiring
from shifter.adapters.memory.state import MemoryFleetStore
from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.fleet.endpoint_cells import EjectionCell, EndpointCell
from shifter.model.fleet import FleetReport, Proposal
from shifter.ops.overrides import (
    Override,
    endpoint_target,
    read_fleet,
    restore_endpoint,
    set_override,
)
from shifter.policy.balance.mark import MarkKind
from shifter.testing.clock import FakeClock

SETTINGS = Settings(namespace="shop")
DRAIN = Override("drained", "ann", "new kernel", 60_000)


@pytest.fixture
def store(monkeypatch):
    store = MemoryFleetStore(FakeClock())
    monkeypatch.setattr(wiring, "open_fleet", lambda settings: store)
    return store


async def test_a_drained_endpoint_is_in_the_status(store):
    target = endpoint_target("render", "A.internal:8080")
    assert target.name == "render http://a.internal:8080"

    fleet = await set_override(SETTINGS, target, DRAIN)

    [row] = fleet.endpoints
    assert (row.dependency, row.endpoint) == ("render", "http://a.internal:8080")
    assert (row.state, row.by, row.why) == ("drained", "operator", "ann: new kernel")
    assert row.left_s == 60
    store._clock.advance(60)
    assert (await read_fleet(SETTINGS)).endpoints == []


async def test_a_restored_endpoint_is_neither_drained_nor_ejected_by_the_fleet(store):
    await set_override(SETTINGS, endpoint_target("render", "a:1"), DRAIN)
    value = msgspec.json.encode(EjectionCell(0, 9_000_000_000_000, 1, "5 failures"))
    for kind in (MarkKind.FLEET, MarkKind.CHECKS):
        cell = EndpointCell(kind, "render", "http://a:1").name
        proposal = Proposal(cell, b"", value)
        await store.sync(FleetReport("p", 0.0, b"", False, 0, 0, [proposal]))
    assert (await read_fleet(SETTINGS)).endpoints != []

    assert (await restore_endpoint(SETTINGS, "render", "a:1")).endpoints == []


@pytest.mark.parametrize(
    ("dependency", "url", "field"),
    [
        ("Render", "a:1", "name"),
        ("render", "no port", "endpoints"),
        ("render", "", "endpoints"),
        ("render", "a:1/" + "x" * 400, "endpoint"),
    ],
)
def test_a_wrong_endpoint_is_one_error_that_names_it(dependency, url, field):
    with pytest.raises(ConfigError) as raised:
        endpoint_target(dependency, url)
    assert raised.value.field == field
