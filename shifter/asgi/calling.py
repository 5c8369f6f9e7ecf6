"""What a service tells those it calls over HTTP: the deadline, urgency and height.

    await client.get(url, headers=calling(app))

As `shifter.grpc.calling` for gRPC. The deadline goes as a duration, so that clocks need
not agree.
"""

from __future__ import annotations

from typing import Final

from shifter.api.app import Shifter
from shifter.asgi.request import HEIGHT_HEADER, PREVIOUS_HEADER, TIMEOUT_HEADER
from shifter.errors import DeadlineExceededError
from shifter.jobs.request_scope import ambient, late_by_s, left_ms
from shifter.model.priority import LEVELS_PER_PRIORITY, Priority
from shifter.wire.timeout import write_timeout

_URGENCIES: Final = {
    Priority.CRITICAL: "u=0",
    Priority.HIGH: "u=1",
    Priority.NORMAL: "u=3",
    Priority.LOW: "u=5",
}


def calling(app: Shifter, *, previous_attempts: int = 0) -> dict[str, str]:
    """Headers of a call on behalf of the request under way; empty outside of one.

    Args:
        app: Whose clock tells what is left of the deadline.
        previous_attempts: How often this call was made before, >= 0: who is called
            charges a retry to its budget. What is called on behalf of a retry is one
            too, without a word.

    Raises:
        DeadlineExceededError: Nothing is left of its deadline: the call is vain.
    """
    around, now = ambient(), app.publisher.clock.epoch_ms()
    left = left_ms(now)
    headers, previous = {}, max(previous_attempts, int(around.is_retry))
    if previous:
        headers[PREVIOUS_HEADER] = str(previous)
    if left is not None:
        if left <= 0:
            raise DeadlineExceededError("over HTTP", late_by_s(now), what="call")
        headers[TIMEOUT_HEADER] = write_timeout(left)
    if around.priority is not None:
        headers["priority"] = _URGENCIES[around.priority]
    if around.draw is not None:
        headers[HEIGHT_HEADER] = str(int(around.draw * LEVELS_PER_PRIORITY))
    return headers
