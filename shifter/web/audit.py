"""The record of what operators do on the page: who, what, why, and how it ended."""

from __future__ import annotations

from shifter.telemetry import Event, Log
from shifter.web.access import Person

_LOG = Log()


def audit(
    person: Person, action: str, target: str, reason: str, **facts: object
) -> None:
    """Write that a person did something.

    Args:
        person: Who.
        action: What, such as ``circuit open``.
        target: On what: a dependency, a topic, a run.
        reason: Why, in the person's words.
        **facts: Further fields of the line.
    """
    _LOG.warning(
        Event.OPERATOR_ACTED,
        by=person.name,
        action=action,
        target=target,
        reason=reason,
        **facts,
    )
