"""The states of a circuit, and the rules by which they change.

1. *Closed*: every call passes. Evidence (`shifter.policy.protection.circuit.evidence`)
   opens the circuit.
2. *Open*: no call passes until the cooldown is over. The cooldown doubles with each
   opening since the last success and is jittered; a wait that the dependency itself
   asks for takes its place. The first cooldown may depend on the kind of failure.
3. *Half-open*: a bounded number of *probes* (trial calls) run at once, each under a
   lease, so that a process that crashed during its probe blocks no other. Enough
   successes close the circuit; one failed, throttled or slow probe opens it again.
4. Every change begins a *generation*, and a permit belongs to one: the result of a call
   of an older generation is dropped. Of two copies of one circuit the one of the later
   generation holds, so a process that has just started resets nothing.

States are values: a store that is shared compares and sets them. Instants are
milliseconds of one clock, the store's where the circuit is shared. ``since_ms`` of a
state is for people: 0 where it is not known, and no part of what makes states equal.

Sources: Nygard, "Release It!"; gobreaker (generations); Linkerd (429 fails a probe);
Brooker, "Exponential Backoff and Jitter" (equal jitter: half of the bound is certain).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from shifter.policy.failure_cause import FailureCause
from shifter.policy.protection.circuit.evidence import CallOutcome
from shifter.policy.protection.circuit.policy import CircuitPolicy, cooldown_ms


@dataclass(frozen=True, slots=True)
class Closed:
    """Every call passes, since ``since_ms``."""

    generation: int = 0
    since_ms: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Open:
    """No call passes before ``until_ms``.

    Attributes:
        generation: As in the other states, the number of the changes so far.
        openings: Openings since the circuit was last closed, >= 1.
        until_ms: When its cooldown is over.
        cause: Why it opened; ``None`` if that is not known.
        since_ms: When the first of these openings was.
    """

    generation: int
    openings: int
    until_ms: int
    cause: FailureCause | None = None
    since_ms: int = field(default=0, compare=False)


class Probe(NamedTuple):
    """A trial call: its number within the generation, >= 1, and its lease's end."""

    number: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """Probes pass.

    Attributes:
        generation: As in the other states, the number of the changes so far.
        openings: As in `Open`.
        probes: Probes under way, in the order in which they were admitted.
        started: Probes admitted so far.
        successes: Probes that succeeded.
        cause: As in `Open`.
        since_ms: As in `Open`.
    """

    generation: int
    openings: int
    probes: tuple[Probe, ...] = ()
    started: int = 0
    successes: int = 0
    cause: FailureCause | None = None
    since_ms: int = field(default=0, compare=False)


CircuitState: TypeAlias = Closed | Open | HalfOpen


class Permit(NamedTuple):
    """One call may be made; ``probe`` is 0 for a call that is no probe."""

    generation: int
    probe: int = 0


class CircuitRefusal(NamedTuple):
    """No call now; another request may pass ``retry_in_ms`` later, > 0."""

    retry_in_ms: int


def admit(
    policy: CircuitPolicy, state: CircuitState, *, now_ms: int
) -> tuple[CircuitState, Permit | CircuitRefusal]:
    """Decide about one call. Pure.

    Args:
        policy: The policy of the circuit.
        state: The state now.
        now_ms: When the call is to begin.

    Returns:
        The state afterwards (the same object if nothing changed) and the answer.
    """
    if isinstance(state, Closed):
        return state, Permit(state.generation)
    if isinstance(state, Open):
        if now_ms < state.until_ms:
            return state, CircuitRefusal(state.until_ms - now_ms)
        state = HalfOpen(
            state.generation + 1,
            state.openings,
            cause=state.cause,
            since_ms=state.since_ms,
        )
    alive = tuple(probe for probe in state.probes if probe.until_ms > now_ms)
    if len(alive) >= policy.probes:
        return state, CircuitRefusal(min(probe.until_ms for probe in alive) - now_ms)
    number = state.started + 1
    probes = (*alive, Probe(number, now_ms + policy.probe_lease_ms))
    after = replace(state, probes=probes, started=number)
    return after, Permit(state.generation, number)


def settle(  # noqa: PLR0913  # state, permit and what came of it, by keyword
    policy: CircuitPolicy,
    state: CircuitState,
    permit: Permit,
    outcome: CallOutcome,
    *,
    now_ms: int,
    u: float,
    retry_after_ms: int | None = None,
    cause: FailureCause | None = None,
) -> CircuitState:
    """The state after a call ended; only probes change it. Pure.

    Args:
        policy: The policy of the circuit.
        state: The state now.
        permit: The permit of the call. If it is of another generation, or the probe's
            lease has ended, the result is dropped.
        outcome: What the call showed; the caller makes a failure of a slow success.
        now_ms: When the call ended.
        u: One draw from [0, 1) for the cooldown.
        retry_after_ms: How long the dependency asked not to be called, if it did.
        cause: Why the call failed; if that is not known, the earlier cause holds.

    Returns:
        The state afterwards, the same object if nothing changed.
    """
    if not isinstance(state, HalfOpen) or permit.generation != state.generation:
        return state
    alive = [probe for probe in state.probes if probe.until_ms > now_ms]
    left = tuple(probe for probe in alive if probe.number != permit.probe)
    if len(left) == len(alive):
        return state
    if outcome in (CallOutcome.FAILURE, CallOutcome.THROTTLED):
        return trip(
            policy,
            state,
            now_ms=now_ms,
            u=u,
            retry_after_ms=retry_after_ms,
            cause=cause or state.cause,
        )
    successes = state.successes
    if outcome is CallOutcome.SUCCESS:
        successes += 1
        if successes >= policy.probe_successes:
            return Closed(state.generation + 1, now_ms)
    return replace(state, probes=left, successes=successes)


def trip(
    policy: CircuitPolicy,
    state: CircuitState,
    *,
    now_ms: int,
    u: float,
    retry_after_ms: int | None = None,
    cause: FailureCause | None = None,
) -> CircuitState:
    """Open the circuit, because of evidence or of a probe. Pure.

    An open circuit stays as it is: late evidence does not prolong its cooldown. The
    arguments are those of `settle`; ``retry_after_ms`` takes the cooldown's place.
    """
    if isinstance(state, Open):
        return state
    openings, since_ms = 1, now_ms
    if isinstance(state, HalfOpen):
        openings, since_ms = state.openings + 1, state.since_ms
    if retry_after_ms is None:
        first_ms = 0 if cause is None else cause.cooldown_ms
        wait_ms = cooldown_ms(policy, openings=openings, u=u, first_ms=first_ms)
    else:
        wait_ms = min(max(1, retry_after_ms), policy.max_retry_after_ms)
    until_ms = now_ms + wait_ms
    return Open(state.generation + 1, openings, until_ms, cause, since_ms)
