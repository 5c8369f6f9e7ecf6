"""The record of what operators do on the page: who, what, why, and how it ended."""

from __future__ import annotations

from shifter.config import Settings
from shifter.ops.audit import Action, append_action
from shifter.telemetry import Event, Log
from shifter.web.access import Person

_LOG = Log()


async def audit(settings: Settings, person: Person, action: Action) -> None:
    """Record that a person did something: as a log line and in the stream of events.

    Args:
        settings: Name the log.
        person: Who; also in the action, as ``by``.
        action: What, and why in the person's words.
    """
    is_recorded = await append_action(settings, action)
    _LOG.warning(
        Event.OPERATOR_ACTED,
        by=action.by,
        role=person.role.value,
        action=action.action,
        reason=action.reason,
        is_recorded=is_recorded,
    )
