"""One live worker a log, for all rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.bad_inputs.catalogue import GOOD, OURS, ROWS, with_id
from tests.bad_inputs.live import Input, Live, opened

KAFKA = pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.redis])


@pytest.fixture(params=[KAFKA, "sqlite"])
def log(request: pytest.FixtureRequest) -> str:
    """Kafka and Redis, or one file."""
    return request.param


@pytest.fixture(scope="session")
def open_lane(request, tmp_path_factory) -> Iterator[Callable[[str], Live]]:
    """Makes lanes that nothing is on; ends what was started for them."""
    running: list[Iterator[Live]] = []

    def open_lane(log: str) -> Live:
        folder = tmp_path_factory.mktemp("live")
        if log == "kafka":
            url = request.getfixturevalue("kafka").url
            state = request.getfixturevalue("redis_server").url
        else:
            url = state = f"sqlite://{folder / 'fleet.db'}"
        running.append(opened(url, state, f"t{uuid.uuid4().hex[:12]}", folder))
        return next(running[-1])

    yield open_lane
    for lane in running:
        assert list(lane) == []


@pytest.fixture(scope="session")
def lives() -> dict[str, Live]:
    """What `live` has run so far."""
    return {}


@pytest.fixture
def live(log, lives, open_lane) -> Live:
    """All rows of the catalogue on this log, after one run of a worker."""
    if log not in lives:
        lane = lives[log] = open_lane(log)
        [twin] = [row for row in ROWS if row.number == 25]
        first = Input("first of 25", with_id(OURS, twin.job_id), GOOD)
        rows = [Input(row.job_id, row.own_headers(), row.value) for row in ROWS]
        lane.feed([first, *rows])
        lane.work()
    return lives[log]
