"""A replay that is killed again and again, beside live traffic, on real logs.

A fifth of the dead letters is not selected. The checkers are those of
`tests.acceptance.replay_history`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.replay_history import between, faults, p99_s
from tests.acceptance.replay_trial import TARGET, Trial, history_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LETTERS = 20_000
SELECTED_OF = 4 / 5
LIVE_PER_S = 200.0
QUIET_S = 8.0
PICK_UP_S = 0.03
"""How soon a job is picked up anyway: below that, twice as long is no harm."""


@pytest.fixture
def embedded(namespace: str, tmp_path: Path) -> Iterator[Fleet]:
    url = f"sqlite://{tmp_path / 'fleet.db'}"
    yield from opened(Fleet(url, url, namespace, tmp_path))


@pytest.fixture
def servers(kafka, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Fleet]:
    yield from opened(Fleet(kafka.url, redis_url, namespace, tmp_path))


def opened(fleet: Fleet) -> Iterator[Fleet]:
    try:
        yield fleet
    finally:
        fleet.close()


def test_a_killed_replay_is_exact_on_one_file(embedded):
    trial = Trial(embedded, LETTERS)
    trial.fill()

    run = trial.replay("--rate", "8000", "--slow-start", "0s", kills=3)

    replays = trial.replays()
    embedded.run("work", TARGET, "--burst")
    ran, _ = trial.effects()
    assert run["counts"] == {"sent": LETTERS * SELECTED_OF}
    assert faults(history_of(LETTERS), replays, ran) == []
    [left] = embedded.json("dlt", "list", "mail")
    assert (left["error"], left["count"]) == ("builtins.KeyError", LETTERS / 5)
    trial.close()


@pytest.mark.kafka
@pytest.mark.redis
def test_a_killed_replay_is_exact_beside_live_traffic(servers):
    replay_beside_live(servers, LETTERS, kills=4, rate=4_000)


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.torture
def test_a_replay_does_not_hold_up_live_traffic(servers):
    """Asks for a machine of its own: what else runs makes jobs wait too."""
    assert_harmless(*replay_beside_live(servers, 50_000, kills=4, rate=4_000))


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.torture
@pytest.mark.timeout(1_800)
def test_a_million_letters_are_exact_through_twenty_kills(servers):
    count = int(os.environ.get("SHIFTER_LETTERS", "1000000"))
    assert_harmless(*replay_beside_live(servers, count, kills=20, rate=5_000))


def replay_beside_live(
    servers: Fleet, count: int, *, kills: int, rate: int
) -> tuple[float, float]:
    """See that it is exact; returns p99 of live jobs before it and while it lasts."""
    trial = Trial(servers, count)
    trial.fill()
    servers.work(target=TARGET)
    with trial.live(LIVE_PER_S) as accepted:
        servers.until(lambda: len(servers.effects()) >= LIVE_PER_S)
        quiet_at = time.time()
        time.sleep(QUIET_S)
        began_at = time.time()
        run = trial.replay("--rate", str(rate), "--slow-start", "2s", kills=kills)
        ended_at = time.time()
    servers.until(trial.is_drained)

    ran, samples = trial.effects()
    assert run["counts"] == {"sent": count * SELECTED_OF}
    assert faults(history_of(count), trial.replays(), ran) == []
    assert len(samples) == accepted[0]
    trial.close()
    quiet = between(samples, quiet_at, began_at)
    return p99_s(quiet), p99_s(between(samples, began_at, ended_at))


def assert_harmless(quiet: float, busy: float) -> None:
    """See that live jobs start about as soon as they do anyway."""
    print(f"live p99: {quiet:.4f} s, beside the replay {busy:.4f} s")
    assert busy <= max(2 * quiet, PICK_UP_S)


@pytest.mark.parametrize("bug", [None, "B16"])
def test_a_replay_that_drops_headers_is_seen(embedded, bug):
    trial = Trial(embedded, 100)
    trial.fill()
    if bug is not None:
        embedded.environment["SHIFTER_BUG"] = bug

    trial.replay("--slow-start", "0s", kills=0)

    replays = trial.replays()
    found = faults(history_of(100), replays, [replay.job for replay in replays])
    assert {fault.split(":")[0] for fault in found} == ({"changed"} if bug else set())
    assert len(found) == (80 if bug else 0)
    trial.close()
