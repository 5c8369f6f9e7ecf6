"""Operators' actions in the stream of events: who did what, and why.

An action is recorded after it was done, and it is done whether or not the log takes the
record: the state store and the journal of runs have what decides.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.errors import ShifterError
from shifter.model.lane import events_topic
from shifter.ports import Appended, Record
from shifter.runtime.threads import in_thread
from shifter.wire.job_event import EventKind, JobEvent, encode_events, shown_text

_PATIENCE_S: Final = 2.0
_CLOSE_S: Final = 1.0


class Action(NamedTuple):
    """What an operator did.

    Attributes:
        action: What, such as ``circuit open mailer``.
        by: Who: a user's name, with the host where it is known.
        reason: Why, in their words; empty where none is asked for.
        job_id: The job that it is about; empty for an action on the fleet.
    """

    action: str
    by: str
    reason: str = ""
    job_id: str = ""


async def append_action(settings: Settings, action: Action) -> bool:
    """Record an operator's action in the topic of events.

    Args:
        settings: Name the log. With ``events=none`` nothing is recorded.
        action: What was done; its texts are made printable and bounded here.

    Returns:
        Whether the log has the record. Nothing is raised for a log that is away.
    """
    if settings.log_url is None or settings.events == "none":
        return False
    event = JobEvent(
        at_ms=SystemClock().epoch_ms(),
        event=EventKind.ACTION.value,
        id=action.job_id,
        action=shown_text(action.action),
        by=shown_text(action.by),
        reason=shown_text(action.reason),
    )
    [(value, _)] = encode_events(wiring.new_worker_id(), [event])
    record = Record(events_topic(settings.namespace), value, [])
    try:
        log = wiring.open_log(settings)
        try:
            answers = await log.append([record], timeout_s=_PATIENCE_S)
        finally:
            await in_thread(log.close, timeout_s=_CLOSE_S)
    except ShifterError:
        return False
    return isinstance(answers[0], Appended)
