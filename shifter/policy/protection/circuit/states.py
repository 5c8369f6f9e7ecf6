"""The states of a circuit, and the rules by which they change.

1. *Closed*: every call passes. Evidence (`shifter.policy.protection.circuit.evidence`)
   opens the circuit.
2. *Open*: no call passes until the cooldown is over. The cooldown doubles with each
   opening since the last success and is jittered; a wait that the dependency itself
   asks for takes its place.
3. *Half-open*: a bounded number of *probes* (trial calls) run at once, each under a
   lease, so that a process that crashed during its probe blocks no other. Enough
   successes close the circuit; one failed, throttled or slow probe opens it again.
4. Every change begins a *generation*, and a permit belongs to one: the result of a call
   of an older generation is dropped. Of two copies of one circuit the one of the later
   generation holds, so a process that has just started resets nothing.

States are values: a store that is shared compares and sets them. Instants are
milliseconds of one clock, the store's where the circuit is shared.

Sources: Nygard, "Release It!"; gobreaker (generations); Linkerd (429 fails a probe);
Brooker, "Exponential Backoff and Jitter" (equal jitter: half of the bound is certain).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from shifter.errors import ConfigError
from shifter.policy.bounds import check_at_least
from shifter.policy.protection.circuit.evidence import CallOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """Settings of a circuit.

    Attributes:
        cooldown_ms: Bound of the first cooldown, doubled each time; >= 1.
        max_cooldown_ms: Largest bound, >= ``cooldown_ms``.
        max_retry_after_ms: Longest wait that the dependency may ask for, >= 1.
        probes: Probes at once, in the whole fleet, >= 1.
        probe_successes: Successful probes that close the circuit, >= 1.
        probe_lease_ms: A probe without a result for so long is given up, >= 1; at least
            the longest timeout of the jobs that use the dependency (`check_lease`).
        ramp_ms: After the circuit closed, the rate of calls doubles with each eighth
            of this time, until no call is refused; >= 0, 0 for no ramp.

    Raises:
        ConfigError: A value is out of its range.
    """

    cooldown_ms: int = 5_000
    max_cooldown_ms: int = 60_000
    max_retry_after_ms: int = 300_000
    probes: int = 1
    probe_successes: int = 1
    probe_lease_ms: int = 60_000
    ramp_ms: int = 2_000

    def __post_init__(self) -> None:
        for name in ("cooldown_ms", "probes", "probe_successes", "probe_lease_ms"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("max_cooldown_ms", self.max_cooldown_ms, self.cooldown_ms)
        check_at_least("max_retry_after_ms", self.max_retry_after_ms, 1)
        check_at_least("ramp_ms", self.ramp_ms, 0)


@dataclass(frozen=True, slots=True)
class Closed:
    """Every call passes."""

    generation: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """No call passes before ``until_ms``.

    ``openings`` counts the openings since the circuit was last closed, >= 1.
    """

    generation: int
    openings: int
    until_ms: int


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
    """

    generation: int
    openings: int
    probes: tuple[Probe, ...] = ()
    started: int = 0
    successes: int = 0


CircuitState: TypeAlias = Closed | Open | HalfOpen


class Permit(NamedTuple):
    """One call may be made; ``probe`` is 0 for a call that is no probe."""

    generation: int
    probe: int = 0


class CircuitRefusal(NamedTuple):
    """No call now; another request may pass ``retry_in_ms`` later, > 0."""

    retry_in_ms: int


def check_lease(policy: CircuitPolicy, *, timeout_ms: int) -> None:
    """Refuse a probe's lease that is shorter than the calls it covers.

    A probe that outlives its lease is given up while it runs: more would run at once
    than are allowed, and none would count.

    Raises:
        ConfigError: ``probe_lease_ms`` is below ``timeout_ms``.
    """
    if policy.probe_lease_ms < timeout_ms:
        want = f"must be at least the handler's timeout ({timeout_ms} ms)"
        raise ConfigError("probe_lease_ms", policy.probe_lease_ms, want)


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
        state = HalfOpen(state.generation + 1, state.openings)
    alive = tuple(probe for probe in state.probes if probe.until_ms > now_ms)
    if len(alive) >= policy.probes:
        return state, CircuitRefusal(min(probe.until_ms for probe in alive) - now_ms)
    number = state.started + 1
    probes = (*alive, Probe(number, now_ms + policy.probe_lease_ms))
    after = HalfOpen(state.generation, state.openings, probes, number, state.successes)
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
        return trip(policy, state, now_ms=now_ms, u=u, retry_after_ms=retry_after_ms)
    successes = state.successes
    if outcome is CallOutcome.SUCCESS:
        successes += 1
        if successes >= policy.probe_successes:
            return Closed(state.generation + 1)
    return HalfOpen(state.generation, state.openings, left, state.started, successes)


def trip(
    policy: CircuitPolicy,
    state: CircuitState,
    *,
    now_ms: int,
    u: float,
    retry_after_ms: int | None = None,
) -> CircuitState:
    """Open the circuit, because of evidence or of a probe. Pure.

    An open circuit stays as it is: late evidence does not prolong its cooldown. The
    arguments are those of `settle`; ``retry_after_ms`` takes the cooldown's place.
    """
    if isinstance(state, Open):
        return state
    openings = 1 if isinstance(state, Closed) else state.openings + 1
    if retry_after_ms is None:
        wait_ms = cooldown_ms(policy, openings=openings, u=u)
    else:
        wait_ms = min(max(1, retry_after_ms), policy.max_retry_after_ms)
    return Open(state.generation + 1, openings, now_ms + wait_ms)


def cooldown_ms(policy: CircuitPolicy, *, openings: int, u: float) -> int:
    """Milliseconds for which the circuit stays open.

    It lies between half of its bound and the bound (equal jitter).

    Args:
        policy: First and largest bound.
        openings: Openings since the circuit was last closed, >= 1.
        u: One draw from [0, 1).

    >>> cooldown_ms(CircuitPolicy(cooldown_ms=1_000), openings=3, u=0.5)
    3000
    """
    doublings = min(openings - 1, policy.max_cooldown_ms.bit_length())
    bound_ms = min(policy.max_cooldown_ms, policy.cooldown_ms << doublings)
    certain_ms = (bound_ms + 1) // 2
    return certain_ms + int(u * (bound_ms - certain_ms))
