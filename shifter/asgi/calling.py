"""Headers for HTTP calls that a service makes: deadline, priority and draw.

    await client.get(url, headers=calling(app))

`shifter.grpc.calling` does the same for gRPC. The deadline is sent as a duration, so
that clocks need not agree.
"""

from __future__ import annotations

from typing import Final

from shifter.api.app import Shifter
from shifter.asgi.request import HEIGHT_HEADER, PREVIOUS_HEADER, TIMEOUT_HEADER
from shifter.errors import DeadlineExceededError
from shifter.jobs.request_scope import ambient, late_by_s, left_ms
from shifter.model.lane import LEVELS_PER_PRIORITY, Priority
from shifter.model.time import write_timeout

_URGENCIES: Final = {
    Priority.CRITICAL: "u=0",
    Priority.HIGH: "u=1",
    Priority.NORMAL: "u=3",
    Priority.LOW: "u=5",
}


def calling(app: Shifter, *, previous_attempts: int = 0) -> dict[str, str]:
    """Headers of a call made on behalf of the current request; empty outside of one.

    Args:
        app: Its clock measures what is left of the deadline.
        previous_attempts: How often this call was made before, >= 0. The called service
            charges a retry to its budget. Calls on behalf of a request that is a retry
            count as retries in any case.

    Raises:
        DeadlineExceededError: The deadline has passed, so the call cannot help.
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
