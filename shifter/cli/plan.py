"""`shifter plan`: the sizes of a fleet and its servers for a workload, checked."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from shifter.adapters.system import SystemClock
from shifter.cli.output import note, write_json, write_line, write_table
from shifter.cli.problem import Exit, ProblemError, usage
from shifter.cli.progress import ProgressDisplay, Reading
from shifter.cli.session import InSession, Session, need_log, need_state
from shifter.errors import ConfigError
from shifter.model.time import duration_ms
from shifter.ops.calibration import (
    FILE,
    STEPS,
    Calibration,
    measure_costs,
    read_calibration,
    write_calibration,
)
from shifter.ops.planning import (
    CheckRow,
    PlanReport,
    plan_report,
    read_arrivals,
    read_slo,
)
from shifter.policy.planning.arrivals import Arrivals, constant
from shifter.policy.planning.costs import UnitCosts
from shifter.policy.planning.site import Site

_TARGET: Final = "shifter.ops.calibration_app:app"
_SLOTS: Final = 1_000
_NEEDS: Final = ("need", "value", "unit", "margin", "formula")
_CHECKS: Final = (
    *("jobs/s", "workers", "partitions", "redis", "brokers", "slo", "in time"),
    *("slots", "redis used", "network", "sync used", "sync p99"),
)
_LIMITS: Final = ("ends", "at jobs/s", "with workers", "then")
_MOST: Final = 100_000


def plan(  # noqa: PLR0913  # one parameter an option
    *,
    arrivals: Path | None = None,
    rate: float | None = None,
    service_time: str = "100ms",
    cpu_time: str = "0s",
    slo: str = "99%/5s",
    payload: int = 100,
    concurrency: int = 100,
    lanes: int = 1,
    replicas: int = 3,
    delay: str = "0s",
    outage: str = "1d",
    keep: str = "5m",
    broker_network: float = 125e6,
    broker_disk: float = 1e12,
    calibrate: bool = False,
    calibration: Path = Path(FILE),
    json: bool = False,
    session: InSession,
) -> None:
    """Plan a fleet and its servers for a workload, and check the plan.

    The plan is checked by a simulation in virtual time. With --calibrate the unit costs
    are measured first, with the log and the Redis server that are configured, and
    saved. Nothing else should run there meanwhile.

    Example: shifter plan --rate 2000 --service-time 80ms --slo 99.9%/5s

    Args:
        arrivals: File of the times at which jobs arrived, in seconds, one a line.
        rate: Jobs a second, instead of a file.
        service_time: How long a handler takes, its waits included.
        cpu_time: The part of it in which the handler uses a core.
        slo: PART%/WAIT: which part of the jobs starts how soon after it is due.
        payload: Bytes of a job's payload.
        concurrency: Jobs running at once in each process.
        lanes: Lanes over which the jobs are spread.
        replicas: Copies of each record in the log.
        delay: Longest delay of a job.
        outage: For how long no worker may run without that a job is lost.
        keep: How long the end of a job is known; a day where jobs have keys.
        broker_network: Bytes a second of a broker's network.
        broker_disk: Bytes of a broker's disk.
        calibrate: Measure the unit costs, and save them.
        calibration: File of the unit costs.
        json: Print one JSON object.
        session: This command line.
    """
    found = _arrivals(arrivals, rate, calibrate=calibrate)
    wanted = read_slo(slo)
    site = Site(
        service_s=_seconds("--service-time", service_time),
        handler_cpu_s=_seconds("--cpu-time", cpu_time),
        concurrency=_whole("--concurrency", concurrency, 1, _MOST),
        lanes=_whole("--lanes", lanes, 1, _MOST),
        replicas=_whole("--replicas", replicas, 1, 10),
        broker_bytes_per_s=_above_zero("--broker-network", broker_network),
        broker_disk_bytes=_above_zero("--broker-disk", broker_disk),
        keep_claims_s=_seconds("--keep", keep, least_ms=1),
        delay_s=_seconds("--delay", delay),
        outage_s=_seconds("--outage", outage),
    )
    payload = _whole("--payload", payload, 0, 1_000_000)
    if site.handler_cpu_s > site.service_s:
        want = f"a part of --service-time, which is {service_time}"
        raise ConfigError("--cpu-time", cpu_time, want)
    if calibrate:
        _calibrate(session, calibration)
    costs = read_calibration(calibration).unit_costs()
    if found is None:
        _show_costs(costs, as_json=json)
        return
    costs = costs._replace(record_bytes=costs.record_bytes + payload)
    report = plan_report(found, wanted, costs, site)
    if json:
        write_json(msgspec.to_builtins(report))
    else:
        _show(report)


def _arrivals(
    file: Path | None, rate: float | None, *, calibrate: bool
) -> Arrivals | None:
    """What arrives; ``None`` where nothing is planned."""
    if file is not None and rate is not None:
        why = "--arrivals and --rate both say what arrives"
        raise usage("two workloads are given", why, "leave one of them out")
    if file is not None:
        return read_arrivals(file)
    if rate is not None:
        return constant(rate)
    if calibrate:
        return None
    why = "neither --rate nor --arrivals is given"
    raise usage("no workload is given", why, "shifter plan --rate 2000")


def _seconds(field: str, text: str, *, least_ms: int = 0) -> float:
    return duration_ms(field, text, minimum_ms=least_ms) / 1_000


def _whole(field: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise ConfigError(field, value, f"allowed: {least} to {most}")
    return value


def _above_zero(field: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise ConfigError(field, value, "more than 0")
    return value


def _calibrate(session: Session, file: Path) -> None:
    app = session.app(_TARGET)
    need_state(need_log(app.settings))
    clock, done = SystemClock(), 0
    display = ProgressDisplay(
        clock, sys.stderr, lambda at: note(f"{at.what}: {at.done:g} of {at.total:g}")
    )

    def step() -> None:
        nonlocal done
        done += 1
        display.show(Reading("calibrating", done, STEPS))

    with display:
        display.show(Reading("calibrating", 0, STEPS))
        costs = asyncio.run(measure_costs(app, _drain, step))
    made = Calibration(1, clock.epoch_ms(), costs._asdict())
    try:
        write_calibration(file, made)
    except OSError as error:
        raise ProblemError(
            "cannot_create",
            "the calibration cannot be saved",
            f"{file}: {error.strerror or error}",
            "name another file with --calibration",
            Exit.CANNOT_CREATE,
        ) from error
    note(f"calibration saved in {file}")


async def _drain() -> float:
    """Drain the calibration's lanes; the processor seconds that it took."""
    before = os.times()
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shifter.cli", "work", _TARGET, "--burst"),
        *("--concurrency", str(_SLOTS)),
        env={**os.environ, "SHIFTER_LOG_LEVEL": "warning"},
        stdout=sys.stderr,
    )
    if await worker.wait() != 0:
        raise ProblemError(
            "calibration",
            "the worker of the calibration failed",
            f"it ended with {worker.returncode}; its lines are above",
            "run shifter doctor, then calibrate again",
            Exit.FAILURE,
        )
    after = os.times()
    used_s = after.children_user - before.children_user
    return used_s + after.children_system - before.children_system


def _show_costs(costs: UnitCosts, *, as_json: bool) -> None:
    if as_json:
        write_json(costs._asdict())
        return
    rows = [(name, f"{value:.4g}") for name, value in costs._asdict().items()]
    write_table(("unit cost", "value"), rows, empty="")


def _show(report: PlanReport) -> None:
    rows = [
        (need.name, f"{need.value:.6g}", need.unit, need.margin, need.formula)
        for need in report.needs
    ]
    write_table(_NEEDS, rows, empty="")
    write_line()
    checks = [_check_row(check) for check in (report.check, *report.growth)]
    write_table(_CHECKS, checks, empty="")
    write_line()
    ends = [
        (limit.resource, f"{limit.per_s:.4g}", limit.workers, limit.then)
        for limit in report.limits
    ]
    write_table(_LIMITS, ends, empty="")
    write_line()
    write_line(f"largest fleet of one Redis core: {report.most_processes} processes")


def _check_row(check: CheckRow) -> tuple[object, ...]:
    return (
        f"{check.per_s:.6g}",
        check.workers,
        check.partitions_a_lane,
        check.redis_servers,
        check.brokers,
        "held" if check.is_held else "missed",
        f"{check.share_in_time:.4%}",
        f"{check.slots_used:.0%}",
        f"{check.redis_used:.0%}",
        f"{check.network_used:.0%}",
        f"{check.sync_used:.1%}",
        f"{check.sync_p99_ms:.2f} ms",
    )
