"""What one job, one claim and one sync cost, as measured on a machine of the reader's.

All formulas of the planner are made of these numbers, so that a plan is as true as they
are. Bytes are without compression.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from shifter.errors import ConfigError

_MOST: Final = 1e12


class UnitCosts(NamedTuple):
    """Costs of the smallest units.

    Attributes:
        job_cpu_s: Seconds of a processor core that a worker process spends on a job
            besides its handler, > 0.
        record_bytes: Bytes of a job's record in the log, headers included, > 0.
        claim_cpu_s: Seconds of Redis' core for the claim and the end of a job, > 0.
        claim_bytes: Bytes of a claim in Redis, > 0.
        claims_per_s: Claims and ends that one client got through, > 0.
        sync_cpu_s: Seconds of Redis' core for a sync of a process, > 0.
        sync_process_cpu_s: What each further process of the fleet adds to it, >= 0.
        presence_cpu_s: Seconds of Redis' core for the report of a worker, > 0.
    """

    job_cpu_s: float
    record_bytes: float
    claim_cpu_s: float
    claim_bytes: float
    claims_per_s: float
    sync_cpu_s: float
    sync_process_cpu_s: float
    presence_cpu_s: float


def checked_costs(costs: UnitCosts) -> UnitCosts:
    """The costs, if a measurement can have given them.

    Raises:
        ConfigError: A number is not finite, is below 0, or is 0 where it must not be.
    """
    for name, value in costs._asdict().items():
        may_be_zero = name == "sync_process_cpu_s"
        is_one = math.isfinite(value) and 0 <= value <= _MOST
        if not is_one or (value == 0 and not may_be_zero):
            raise ConfigError(name, value, "a calibration has numbers above 0")
    return costs
