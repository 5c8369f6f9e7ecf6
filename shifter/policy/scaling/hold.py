"""When a number of workers may fall: not soon after more were needed, nor by a little.

The number may rise at once. It falls to the largest number that was needed within the
stabilisation window, and only if that is less by more than the tolerance. So it never
falls within a window of having risen. Source: the stabilisation window of Kubernetes'
horizontal pod autoscaler.
"""

from __future__ import annotations

from typing import NamedTuple

from shifter.policy.scaling.settings import ScalingPolicy


class HoldState(NamedTuple):
    """Numbers that were needed lately.

    Attributes:
        needed: (monotonic milliseconds, workers), the oldest and largest first. A
            number that a later one reached is left out.
        last: The last answer.
    """

    needed: tuple[tuple[int, int], ...] = ()
    last: int = 0


def starting_with(workers: int, *, now_ms: int) -> HoldState:
    """The state of a controller that finds a fleet of some size when it starts.

    The fleet was asked for by someone, so that it stays for a window. Pure.

    Args:
        workers: Live workers, >= 0.
        now_ms: Monotonic milliseconds.
    """
    return HoldState(((now_ms, workers),), workers)


def hold(
    policy: ScalingPolicy, state: HoldState, workers: int, *, now_ms: int
) -> tuple[HoldState, int]:
    """The number of workers after the hold, and the next state.

    A clock that went back counts as one that stood still: what was needed in its future
    was needed now.

    Args:
        policy: The settings.
        state: The state so far.
        workers: The number that is needed now.
        now_ms: Monotonic milliseconds.

    Pure.
    """
    since_ms = now_ms - policy.stabilisation_ms
    recent = [(min(at, now_ms), n) for at, n in state.needed if at > since_ms]
    recent = [*(one for one in recent if one[1] > workers), (now_ms, workers)]
    kept = recent[0][1]
    if workers < state.last and kept >= state.last * (1 - policy.tolerance) and kept:
        kept = max(kept, state.last)
    return HoldState(tuple(recent), kept), kept
