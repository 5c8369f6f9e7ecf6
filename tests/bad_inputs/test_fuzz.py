"""A cut of ``make fuzz``: bad records and hostile state, read and worked off."""

from __future__ import annotations

import pytest

from shifter.model.reason import Reason
from tests.acceptance.fleet import Fleet
from tests.bad_inputs.fuzz import decode_many, work_off
from tests.bad_inputs.state_fuzz import (
    RedisState,
    SqliteState,
    read_many,
    work_beside,
)

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_read_is_a_job_or_a_stated_refusal(seed):
    ends = decode_many(5_000, seed, lambda number: None)

    assert ends.total() == 5_000
    assert {"job", Reason.UNDECODABLE_ENVELOPE, Reason.UNDECODABLE_PAYLOAD} <= {*ends}


def test_a_live_worker_ends_each_as_it_reads_and_no_lane_is_stuck(log, open_lane):
    ends = work_off(open_lane(log), 2_000, 7)

    assert ends.total() == 2_000
    assert ends["job"] > 10


@pytest.mark.redis
@pytest.mark.parametrize("seed", range(2))
async def test_no_value_in_redis_makes_a_reader_raise(redis_url, namespace, seed):
    assert await read_many(RedisState(redis_url, namespace), 6_000, seed) == 6_000


@pytest.mark.parametrize("seed", range(2))
async def test_no_value_in_a_file_makes_a_reader_raise(tmp_path, namespace, seed):
    assert await read_many(SqliteState(tmp_path, namespace), 6_000, seed) == 6_000


@pytest.mark.redis
def test_no_value_in_redis_ends_a_worker_or_a_command(redis_url, namespace, tmp_path):
    fleet = Fleet(f"sqlite://{tmp_path / 'log.db'}", redis_url, namespace, tmp_path)
    try:
        counts = work_beside(fleet, redis_url, 10_000, 3)
    finally:
        fleet.close()

    assert counts["commands"] >= 1
