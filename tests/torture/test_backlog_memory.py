"""A worker on a backlog of 400,000 jobs, or of large ones, stays below its promise.

337 MiB were reported of a backlog of 400,000 small jobs, 1.2 GiB of 6,000 keyed ones of
200 kB and 1.4 GiB of 1,500 of 890 kB. The client's queues hold 4 MiB a consumer, and
what waits is bounded by bytes; what comes on top are the payloads of jobs that run.
"""

from __future__ import annotations

import pytest

from benchmarks.backlog import BACKLOGS, measure, servers

PROMISED_MIB = 300
RUNNING_MIB = 300
"""On top with 100 slots of 890 kB each, encoded and decoded, and what is freed late."""

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.torture]


@pytest.fixture(scope="module")
def environment():
    with servers() as found:
        yield found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", list(BACKLOGS))
def test_a_worker_on_a_backlog_stays_below_its_promise(name, environment):
    peak = measure(BACKLOGS[name], environment)

    print(name, peak)
    on_top = RUNNING_MIB if name == "large-890kB-100" else 0
    assert peak.done > 0
    assert peak.rss < PROMISED_MIB + on_top
