"""Whether a dependency is called at all: closed, open, half-open.

The rules:

1. *Closed*: every call passes. Evidence (`shifter.policy.protection.evidence`) opens
it.
2. *Open*: no call passes until the cooldown is over: twice as long with every opening
   that no success came after, jittered, or as long as the dependency itself asked for.
3. *Half-open*: a bounded number of *probes* at once, each under a lease, so that a
   prober that crashed blocks nobody. Enough successes close the circuit; one failure,
   one throttled or slow answer opens it again.
4. Every change begins a *generation*, and a permit belongs to one: what a call of an
   older one comes to is dropped. Of two views of one circuit the later generation
   holds, so a process that has just started resets nothing (`SharedCircuit.learn`).

States are values: whoever shares one (a script in the store, a row of a table) compares
and sets it. Instants are milliseconds of one clock, the store's where it is shared.

Sources: Nygard, "Release It!"; gobreaker (generations); Linkerd (429 fails a probe);
Brooker, "Exponential Backoff and Jitter" (equal jitter: half of the bound is certain).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, assert_never

from shifter.errors import ConfigError
from shifter.policy.bounds import check_at_least
from shifter.policy.protection.evidence import CallOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """Settings of a circuit.

    Attributes:
        cooldown_ms: Bound of the first cooldown, doubled each time; >= 1.
        max_cooldown_ms: Largest bound, >= ``cooldown_ms``.
        max_retry_after_ms: Longest wait that the dependency may ask for, >= 1.
        probes: Probes at once, in the whole fleet, >= 1.
        probe_successes: So many close the circuit, >= 1.
        ramp_ms: After it closed, the rate of calls doubles with each eighth of this,
            until none is turned away; 0 for no ramp, >= 0.
        probe_lease_ms: A probe not heard of for so long is given up, >= 1; at least
            the longest timeout of the jobs that use it (`check_lease`).

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

    ``openings`` counts those since the circuit was last closed, >= 1.
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
        generation: Count of the changes, as in every state.
        openings: As in `Open`.
        probes: Under way, in the order they were let pass.
        started: Probes let pass so far.
        successes: Probes that succeeded.
    """

    generation: int
    openings: int
    probes: tuple[Probe, ...] = ()
    started: int = 0
    successes: int = 0


CircuitState: TypeAlias = Closed | Open | HalfOpen


class Permit(NamedTuple):
    """Leave for one call; ``probe`` is 0 for an ordinary one."""

    generation: int
    probe: int = 0


class CircuitRefusal(NamedTuple):
    """No leave; it is worth asking again ``retry_in_ms`` later, > 0."""

    retry_in_ms: int


def check_lease(policy: CircuitPolicy, *, timeout_ms: int) -> None:
    """Refuse a lease shorter than the calls it stands for.

    A probe that outlives its lease is given up while it still runs: there would be
    more probes at once than allowed, and none of them would ever count.

    Raises:
        ConfigError: ``probe_lease_ms`` is below ``timeout_ms``.
    """
    if policy.probe_lease_ms < timeout_ms:
        want = f"must be at least the handler's timeout ({timeout_ms} ms)"
        raise ConfigError("probe_lease_ms", policy.probe_lease_ms, want)


def admit(
    policy: CircuitPolicy, state: CircuitState, *, now_ms: int
) -> tuple[CircuitState, Permit | CircuitRefusal]:
    """Decide about one call.

    Returns:
        The state afterwards (the same object if nothing changed) and the answer.

    Pure.
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
    """The state after a call ended; only probes change it.

    Args:
        policy: The circuit's.
        state: Now.
        permit: The call's; one of another generation, or past its lease, is dropped.
        outcome: What the call came to; the caller makes a failure of a slow success.
        now_ms: When it ended.
        u: One draw from [0, 1) for the cooldown.
        retry_after_ms: How long the dependency asked to be left alone, if it did.

    Pure.
    """
    if not isinstance(state, HalfOpen) or permit.generation != state.generation:
        return state
    alive = [probe for probe in state.probes if probe.until_ms > now_ms]
    left = tuple(probe for probe in alive if probe.number != permit.probe)
    if len(left) == len(alive):
        return state
    match outcome:
        case CallOutcome.SUCCESS:
            successes = state.successes + 1
            if successes >= policy.probe_successes:
                return Closed(state.generation + 1)
        case CallOutcome.IGNORED:
            successes = state.successes
        case CallOutcome.FAILURE | CallOutcome.THROTTLED:
            return trip(
                policy, state, now_ms=now_ms, u=u, retry_after_ms=retry_after_ms
            )
        case _:
            assert_never(outcome)
    return HalfOpen(state.generation, state.openings, left, state.started, successes)


def trip(
    policy: CircuitPolicy,
    state: CircuitState,
    *,
    now_ms: int,
    u: float,
    retry_after_ms: int | None = None,
) -> CircuitState:
    """The state after evidence, or a probe, spoke against the dependency.

    An open circuit stays as it is: late evidence does not prolong its cooldown. Pure.
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
    """Milliseconds the circuit stays open; between half of the bound and the bound.

    Args:
        policy: Base and cap.
        openings: Openings since it was last closed, >= 1.
        u: One draw from [0, 1).

    >>> cooldown_ms(CircuitPolicy(cooldown_ms=1_000), openings=3, u=0.5)
    3000
    """
    doublings = min(openings - 1, policy.max_cooldown_ms.bit_length())
    bound_ms = min(policy.max_cooldown_ms, policy.cooldown_ms << doublings)
    certain_ms = (bound_ms + 1) // 2
    return certain_ms + int(u * (bound_ms - certain_ms))
