"""A cut of ``make fuzz``: random and damaged records, read and worked off."""

from __future__ import annotations

import pytest

from shifter.model.reason import Reason
from tests.bad_inputs.fuzz import decode_many, work_off

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
