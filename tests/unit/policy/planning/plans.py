"""Unit costs and sites of round numbers."""

from __future__ import annotations

from shifter.policy.planning.costs import UnitCosts
from shifter.policy.planning.site import Site
from shifter.policy.planning.waits import Slo

COSTS = UnitCosts(
    job_cpu_s=40e-6,
    record_bytes=300.0,
    claim_cpu_s=10e-6,
    claim_bytes=200.0,
    claims_per_s=20_000.0,
    sync_cpu_s=50e-6,
    sync_process_cpu_s=2e-6,
    presence_cpu_s=20e-6,
)
SITE = Site(service_s=0.1, concurrency=10)
SLO = Slo(0.99, 1.0)
