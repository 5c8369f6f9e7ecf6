"""`shifter worker`: one worker of the fleet."""

from __future__ import annotations

import asyncio

from shifter.cli.audit import record_action
from shifter.cli.output import note
from shifter.cli.session import InSession, need_state
from shifter.ops.operator import who
from shifter.ops.workers import drain_worker


def worker_drain(worker_id: str, /, *, reason: str, session: InSession) -> None:
    """Let one worker finish what it runs, and end it; no other one is started instead.

    The worker takes no more work within a second or two, as after SIGTERM. What it had
    fetched goes to the other workers. Its supervisor goes on with its other processes,
    and ends with 0 when none is left.

    Example: shifter worker drain web1-4711-0b1c2d3e --reason "the host is replaced"

    Args:
        worker_id: Id of the worker, as `shifter status` shows it.
        reason: Why, shown with the order and kept in the stream of events.
        session: This command line.
    """
    settings, owner = need_state(session.settings()), who()
    order = asyncio.run(drain_worker(settings, worker_id, owner=owner, reason=reason))
    note(f"{worker_id}: drains, by {order.owner}: {order.reason}")
    record_action(settings, f"worker drain {worker_id}", reason)
