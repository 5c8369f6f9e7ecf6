"""What is said of every job: counted, and logged where somebody may want to know.

A job that ends as it should is counted and, at debug level, logged; every other end is
one line with all that is needed to find the job again.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from shifter.model.state import JobState
from shifter.policy.retry import Outcome
from shifter.ports import Clock, LostRange
from shifter.telemetry import Metrics, get_logger
from shifter.work.attempt import Attempt
from shifter.work.item import Item
from shifter.work.verdict import Step

_RATE_WINDOW_S = 5.0


class Ledger:
    """Counts and logs for one worker process.

    Args:
        metrics: Where counts go.
        clock: For waits and rates.
        worker: This worker's id, bound to each line.
    """

    def __init__(self, metrics: Metrics, clock: Clock, *, worker: str) -> None:
        self._metrics, self._clock = metrics, clock
        self._log = get_logger("shifter.work").bind(worker=worker)
        self._ended: Counter[str] = Counter()
        self._before: dict[str, int] = {}
        self._since = clock.monotonic()
        self._rates: dict[str, float] = {}

    def started(self, item: Item) -> None:
        """An attempt starts."""
        waited_ms = self._clock.epoch_ms() - item.delivery.appended_ms
        self._metrics.job_waited(item.lane, waited_ms / 1_000)

    def ran(self, attempt: Attempt, outcome: Outcome) -> None:
        """An attempt ended."""
        ran_s = self._clock.monotonic() - attempt.started_at
        self._metrics.attempt_ended(attempt.item.lane, outcome, ran_s)

    def ended(self, step: Step) -> None:
        """A delivery ended, or its job goes on in place."""
        lane = step.entry.lane
        if step.settles:
            self._ended[lane.name] += 1
        if step.is_copy:
            return
        self._metrics.job_ended(lane, step.state)
        if step.refusal is not None:
            self._metrics.dead_lettered(lane, step.refusal.reason)
        if step.state is JobState.DONE:
            self._log.debug("job.done", **_facts(step))
        elif step.state is JobState.WAITING:
            self._log.info("job.waits", **_facts(step), **_failure(step))
        elif step.state is JobState.DEAD:
            self._log.warning("job.dead_lettered", **_facts(step), **_failure(step))
        else:
            self._log.warning(f"job.{step.state.value}", **_facts(step))

    def rates(self, now: float) -> dict[str, float]:
        """Deliveries ended a second, per lane, over the last few seconds."""
        passed_s = now - self._since
        if passed_s >= _RATE_WINDOW_S or not self._rates:
            self._rates = {
                lane: (count - self._before.get(lane, 0)) / max(passed_s, 1.0)
                for lane, count in self._ended.items()
            }
            self._before, self._since = dict(self._ended), now
        return dict(self._rates)

    def fence_lost(self, item: Item) -> None:
        """Somebody else was granted the job while it ran here."""
        self._log.warning("claim.lost", job_id=item.envelope.id, lane=item.lane.name)

    def hand_over_failed(self, step: Step, detail: str) -> None:
        """A successor was not taken; it will be tried again."""
        self._log.warning("successor.not_taken", **_facts(step), detail=detail)

    def lost(self, lost: LostRange) -> None:
        """Records were deleted before anybody read them."""
        self._metrics.records_lost(lost.topic, lost.end - lost.first)
        self._log.error("lane.records_lost", **lost._asdict())

    def store_away(self, what: str) -> None:
        """The state store did not answer."""
        self._metrics.store_failed(what)

    def quiesced(self, *, forgotten: int) -> None:
        """Intake stopped; what had not started goes back to the log."""
        self._log.info("worker.quiesced", handed_back=forgotten)

    def abandoned(self, pending: int) -> None:
        """Ends were not recorded in time; their jobs will come again."""
        self._log.error("worker.abandoned_ends", pending=pending)


def _facts(step: Step) -> dict[str, Any]:
    entry = step.entry
    facts: dict[str, Any] = {
        "lane": entry.lane.name,
        "partition": entry.delivery.partition,
        "offset": entry.delivery.offset,
    }
    if isinstance(entry, Item):
        facts |= {
            "job_id": entry.envelope.id,
            "job": entry.envelope.type,
            "attempt": entry.attempt,
        }
    return facts


def _failure(step: Step) -> dict[str, Any]:
    failure: dict[str, Any] = {}
    if step.refusal is not None:
        failure["reason"] = step.refusal.reason.value
        failure["detail"] = step.refusal.detail
    if step.error is not None:
        failure["error"] = step.error.type
        failure["message"] = step.error.message
        failure["fingerprint"] = step.error.fingerprint
    return failure
