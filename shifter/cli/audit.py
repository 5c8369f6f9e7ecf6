"""Records what an operator did by a command, in the stream of events."""

from __future__ import annotations

import asyncio

from shifter.cli.output import warn
from shifter.config import Settings
from shifter.ops.audit import Action, append_action
from shifter.ops.operator import who


def record_action(
    settings: Settings, action: str, reason: str = "", job_id: str = ""
) -> None:
    """Record that the operator of this command did something.

    Args:
        settings: Name the log; without one, or with ``events=none``, nothing happens.
        action: What was done, such as ``circuit open mailer``.
        reason: Why, in the operator's words.
        job_id: The job that it is about, if it is one.
    """
    if settings.log_url is None or settings.events == "none":
        return
    done = Action(action, who(), reason, job_id)
    if not asyncio.run(append_action(settings, done)):
        warn("the action is done, but the topic of events has no record of it")
