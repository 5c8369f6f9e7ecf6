"""Measures unit costs for the planner, and keeps them in a file.

Jobs of an app of its own are drained by a real worker: first a few, then many, so that
the difference has no part of the start. Its topics stay in the log, and the next
calibration uses them again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from shifter import wiring
from shifter.adapters.redis.calibration import RedisMeter
from shifter.api.app import Shifter
from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.model.answer import Deferred
from shifter.model.lane import Lane, Priority
from shifter.policy.planning.costs import UnitCosts, checked_costs

FILE: Final = "calibration.json"
STEPS: Final = 5
FEW: Final = 1_000
MANY: Final = 101_000
"""Their work is some seconds, of which the start of a process is a small part."""
_CLAIMS: Final = 50_000
_SYNCS: Final = 2_000
_LOOKED_AT: Final = 20
# A record in a batch: its lengths, its offset and time (Kafka's format 2).
_FRAMING_BYTES: Final = 12
_WANT: Final = "a file that --calibrate has written; make it again"


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of a calibration, a published contract.

    Attributes:
        version: 1.
        made_ms: When it was measured, epoch milliseconds.
        costs: The unit costs by name: see `shifter.policy.planning.costs.UnitCosts`.
    """

    version: int
    made_ms: int
    costs: dict[str, float]

    def unit_costs(self) -> UnitCosts:
        """The unit costs.

        Raises:
            ConfigError: One is missing, unknown or out of its range.
        """
        if set(self.costs) != set(UnitCosts._fields) or self.version != 1:
            raise ConfigError("--calibration", ",".join(self.costs), _WANT)
        return checked_costs(UnitCosts(**self.costs))


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file.

    Raises:
        ConfigError: There is none, or it is not one.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except OSError as error:
        want = "make it with: shifter plan --calibrate"
        reason = error.strerror or str(error)
        raise ConfigError("--calibration", str(path), f"{reason}; {want}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ConfigError("--calibration", str(path), f"{error}; {_WANT}") from error
    found.unit_costs()
    return found


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration, for a person to read too.

    Raises:
        OSError: The file cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(calibration), indent=2)
    path.write_bytes(text + b"\n")


async def measure_costs(
    app: Shifter,
    drain: Callable[[], Awaitable[float]],
    step: Callable[[], None],
) -> UnitCosts:
    """Measure every unit cost on the servers that the app's settings name.

    Args:
        app: `shifter.ops.calibration_app.app`.
        drain: Drains the app's lanes with one worker process; returns the processor
            seconds that the process used.
        step: Called after each of `STEPS` steps.

    Raises:
        ConfigError: The state is not one Redis server, or nothing can be measured.
        StoreUnavailableError, StoreRefusedError: A server does not answer, or refuses.
    """
    settings = app.settings
    meter = _meter(settings, step)
    try:
        of_redis = await meter.measure(claims=_CLAIMS, syncs=_SYNCS)
    finally:
        await meter.close()
    async with wiring.opened_admin(settings) as admin:
        await admin.apply(wiring.topic_specs(settings, app.queues))
    async with app:
        await _fill(app, FEW)
        record_bytes = await _record_bytes(app)
        few_s = await drain()
        step()
        await _fill(app, MANY)
        many_s = await drain()
        step()
    job_cpu_s = (many_s - few_s) / (MANY - FEW)
    if job_cpu_s <= 0:
        want = "the machine is too busy to measure a job's cost: calibrate again"
        raise ConfigError("--calibrate", f"{job_cpu_s:.3g} s", want)
    return checked_costs(
        UnitCosts(job_cpu_s=job_cpu_s, record_bytes=record_bytes, **of_redis._asdict())
    )


def _meter(settings: Settings, step: Callable[[], None]) -> RedisMeter:
    url = None if settings.state_url is None else settings.state_url.reveal()
    if url is None or not url.startswith(("redis:", "rediss:", "unix:")):
        want = "a calibration measures one Redis server: --state redis://host:6379"
        raise ConfigError("state", None if url is None else "another", want)
    return RedisMeter(url, settings.namespace, step)


async def _fill(app: Shifter, count: int) -> None:
    job = app.jobs["noop"]
    answers = await job.defer_many([(number,) for number in range(count)])
    refused = sum(not isinstance(answer, Deferred) for answer in answers)
    if refused:
        raise ConfigError("--calibrate", refused, "the log refused jobs; try again")


async def _record_bytes(app: Shifter) -> float:
    """Bytes of a record in the log besides its payload, on average."""
    lanes = [Lane(app.namespace, queue, Priority.NORMAL).name for queue in app.queues]
    async with wiring.opened_admin(app.settings) as admin:
        found = [await admin.peek(lane, _LOOKED_AT) for lane in lanes]
    sizes = [
        sum(len(name) + len(value or b"") for name, value in record.headers)
        + len(record.key or b"")
        + _FRAMING_BYTES
        for peeked in found
        for record in peeked.waiting
    ]
    return sum(sizes) / len(sizes) if sizes else float(_FRAMING_BYTES)
