"""Explaining a job reads the fleet as it is, and decides as a service would."""

from __future__ import annotations

import pytest

from shifter import Priority, Shifter, Window, wiring
from shifter.config import Secret, Settings
from shifter.ops.explain import explain_job
from shifter.ops.overrides import (
    Override,
    circuit_target,
    set_override,
    window_target,
)


@pytest.fixture
async def app(settings) -> Shifter:
    app = Shifter("shop", settings=settings)
    app.lane("mail", priority=Priority.LOW, window=Window("22:00-06:00"))
    mailer = app.dependency("mailer")

    @app.job(queue="mail", priority=Priority.LOW, window=Window("05:00-08:00"))
    async def digest() -> None: ...

    @app.job(queue="mail", uses=mailer)
    async def send() -> None: ...

    @app.job
    async def ping() -> None: ...

    async with wiring.opened_admin(settings) as admin:
        await admin.apply(wiring.topic_specs(settings, app.queues))
    return app


async def explained(app, name, **options):
    job, warnings = app.find_job(name), []
    found = await explain_job(app, job, job.options(**options), warnings.append)
    assert warnings == []
    return found


async def by_hand(app, target, to) -> None:
    await set_override(app.settings, target, Override(to, "ann", "a drill", 60_000))


def decisive(found) -> set[str]:
    return {row.rule for row in found.rules if row.is_decisive}


async def test_an_idle_fleet_runs_a_job(app):
    found = await explained(app, "ping")

    assert (found.job, found.lane, found.is_dark) == (
        "ping",
        "shop.default.normal",
        False,
    )
    assert found.decision.verdict.value == "run"


async def test_the_lane_is_that_of_the_options(app):
    found = await explained(app, "ping", priority=Priority.HIGH)

    assert found.lane == "shop.default.high"


async def test_the_windows_are_those_of_the_job_and_of_its_lane(app):
    windows = (await explained(app, "digest")).windows

    assert windows.of_job == ["05:00-08:00 daily UTC"]
    assert windows.of_lane == ["22:00-06:00 daily UTC"]
    assert (windows.lane_waits, windows.job_waits, windows.overrides) == (
        False,
        False,
        [],
    )


async def test_a_window_set_by_hand_decides(app):
    await by_hand(app, window_target("mail", None, None), "closed")

    found = await explained(app, "digest")

    [override] = found.windows.overrides
    assert (override.scope, override.is_open) == ("queue/mail", False)
    assert 0 < override.left_s <= 60
    assert found.windows.opens_s is not None
    assert found.decision.reason.value == "window_closed"


async def test_a_circuit_opened_by_hand_keeps_only_jobs_that_use_it(app):
    await by_hand(app, circuit_target("mailer"), "open")

    kept, other = await explained(app, "send"), await explained(app, "ping")

    assert kept.decision.reason.value == "circuit_open"
    assert "circuit" in decisive(kept)
    assert other.decision.verdict.value == "run"


async def test_what_cannot_be_read_is_warned_of_and_the_rest_is_explained():
    url = Secret.of_url("kafka://nowhere.example")
    app, warnings = (
        Shifter("shop", settings=Settings(namespace="shop", log_url=url)),
        [],
    )

    @app.job
    async def ping() -> None: ...

    found = await explain_job(app, ping, ping.options(), warnings.append)

    assert warnings == ["no log and state store are configured: lanes are not known"]
    assert found.decision.verdict.value == "run"
