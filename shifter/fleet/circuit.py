"""The circuit of one dependency that the fleet shares, and how one process follows it.

`SharedCircuit` holds the state of the last sync, and calls are decided by it. The
results of probes are kept until the next sync, which applies them to that state and
proposes the result. If another process was faster, they are applied again to the state
that it wrote.

`shifter.fleet.breaker` combines it with this process's own circuit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from shifter.fleet.shared_state import (
    OverrideCell,
    bounded,
    circuit_cell,
    circuit_text,
    read_circuit,
)
from shifter.model.fleet import Proposal
from shifter.policy.failure_cause import FailureCause
from shifter.policy.protection.circuit.evidence import (
    CallOutcome,
)
from shifter.policy.protection.circuit.policy import CircuitPolicy
from shifter.policy.protection.circuit.ramp import Ramp
from shifter.policy.protection.circuit.states import (
    CircuitRefusal,
    CircuitState,
    Closed,
    Open,
    Permit,
    admit,
    settle,
    trip,
)

ASK_AGAIN_MS: Final = 300
"""Wait for a probe's lease: one sync (200 ms) and its round trip."""

_NOT_COUNTED: Final = Permit(-1)
"""The permit of a call that this process's own circuit does not count."""


class _ProbeEnd(NamedTuple):
    """How a probe ended: arguments as of `SharedCircuit.ended`."""

    permit: Permit
    outcome: CallOutcome
    retry_after_ms: int | None
    cause: FailureCause | None


class _Draft(NamedTuple):
    """A proposal that was not answered yet."""

    state: CircuitState
    text: bytes
    leased: Permit | None
    now_ms: int


class SharedCircuit:
    """The fleet's circuit; instants are by the store's clock. Belongs to one thread.

    Args:
        name: The name of the dependency.
        policy: The policy of the circuit.
        longest_ms: The longest cooldown for a kind of failure; 0 for none.

    Attributes:
        state: The state of the last sync.
        by_hand: The operator's override; one that has ended has no effect.
        peak_per_ms: This process's calls a millisecond before the circuit opened; 0 if
            that is not known.
    """

    def __init__(
        self, name: str, policy: CircuitPolicy, *, longest_ms: int = 0
    ) -> None:
        self._cell, self._policy = circuit_cell(name), policy
        self._longest_ms = longest_ms
        self.state: CircuitState = Closed()
        self.by_hand: OverrideCell | None = None
        self.peak_per_ms = 0.0
        self._text = b""
        self._is_stored = True
        self._ended: list[_ProbeEnd] = []
        self._proposed: list[_ProbeEnd] = []
        self._draft: _Draft | None = None
        self._ready: list[tuple[Permit, int]] = []
        self._wants_probe = False
        self._suspected: tuple[int, int | None, FailureCause | None] | None = None
        self._ramp: Ramp | None = None

    @property
    def calm_generation(self) -> int:
        """The generation of a closed circuit without override and ramp; else -1."""
        if self.by_hand is not None or self._ramp is not None:
            return -1
        state = self.state
        return state.generation if isinstance(state, Closed) else -1

    def admit(self, now_ms: int) -> Permit | CircuitRefusal:
        """Decide about one call."""
        state = self.state
        if self.by_hand is not None and now_ms < self.by_hand.until_ms:
            if self.by_hand.to == "open":
                return CircuitRefusal(self.by_hand.until_ms - now_ms)
            return Permit(state.generation)
        if isinstance(state, Closed):
            return self._ramped(state, now_ms)
        if isinstance(state, Open) and now_ms < state.until_ms:
            return CircuitRefusal(state.until_ms - now_ms)
        while self._ready:
            permit, until_ms = self._ready.pop()
            if permit.generation == state.generation and now_ms < until_ms:
                return permit
        self._wants_probe = True
        return CircuitRefusal(ASK_AGAIN_MS)

    def _ramped(self, state: Closed, now_ms: int) -> Permit | CircuitRefusal:
        ramp = self._ramp
        if ramp is not None:
            if not ramp.admit(now_ms):
                return CircuitRefusal(ASK_AGAIN_MS)
            if ramp.is_over:
                self._ramp = None
        return Permit(state.generation)

    def give_back(self, permit: Permit, now_ms: int) -> None:
        """Return the permit of a call that is not made."""
        if permit.probe:
            # When its lease began is not known here. A result past the lease's end
            # would be dropped, so the permit is used within half of a lease.
            until_ms = now_ms + self._policy.probe_lease_ms // 2
            self._ready.append((permit, until_ms))
        elif self._ramp is not None:
            self._ramp.give_back()

    def ended(
        self,
        permit: Permit,
        outcome: CallOutcome,
        retry_after_ms: int | None,
        cause: FailureCause | None = None,
    ) -> None:
        """Note how a call ended: a probe changes the state, other calls the ramp.

        Args:
            permit: The call's permit.
            outcome: How the call ended.
            retry_after_ms: How long the dependency asked not to be called, if it did.
            cause: Why the call failed, if it did.
        """
        if permit.probe:
            end = _ProbeEnd(permit, outcome, retry_after_ms, cause)
            self._ended.append(end)
        elif self._ramp is not None and outcome is not CallOutcome.IGNORED:
            self._ramp.ended(ok=outcome is CallOutcome.SUCCESS)

    def suspect(
        self, retry_after_ms: int | None = None, cause: FailureCause | None = None
    ) -> None:
        """Propose to open the circuit, unless it changes before the next sync.

        Args:
            retry_after_ms: How long the dependency asked not to be called, if it did.
            cause: Why calls failed; its cooldown is at most that of a local rule.
        """
        if cause is not None and cause.cooldown_ms > self._longest_ms:
            cause = replace(cause, cooldown_ms=self._longest_ms)
        self._suspected = (self.state.generation, retry_after_ms, cause)

    @property
    def is_urgent(self) -> bool:
        """Whether the next sync should not wait."""
        return bool(self._ended) or self._suspected is not None

    @property
    def has_news(self) -> bool:
        """Whether there may be something to propose."""
        # Read for each of a thousand dependencies at each sync, so it calls nothing.
        is_settled = self._is_stored and not self._wants_probe
        return not is_settled or self._suspected is not None or bool(self._ended)

    def propose(self, now_ms: int, u: float) -> Proposal | None:
        """What the cell should become; ``None`` to leave it."""
        policy, state = self._policy, self.state
        self._proposed, self._ended = self._ended, []
        for end in self._proposed:
            state = settle(
                policy,
                state,
                end.permit,
                end.outcome,
                now_ms=now_ms,
                u=u,
                retry_after_ms=end.retry_after_ms,
                cause=end.cause,
            )
        if self._suspected is not None:
            generation, after_ms, cause = self._suspected
            if isinstance(state, Closed) and state.generation == generation:
                state = trip(
                    policy,
                    state,
                    now_ms=now_ms,
                    u=u,
                    retry_after_ms=after_ms,
                    cause=cause,
                )
        leased = None
        if self._wants_probe and not isinstance(state, Closed):
            state, answer = admit(policy, state, now_ms=now_ms)
            leased = answer if isinstance(answer, Permit) else None
        text = circuit_text(state)
        is_first = not self._text and state == Closed()
        if is_first or text == self._text:
            self._draft, self._proposed, self._suspected = None, [], None
            return None
        self._draft = _Draft(state, text, leased, now_ms)
        return Proposal(self._cell, self._text, text)

    def answered(self, *, accepted: bool) -> None:
        """Note what became of the proposal; ``False`` also if that is not known."""
        draft, self._draft = self._draft, None
        if not accepted or draft is None:
            self._ended = self._proposed + self._ended
            self._proposed = []
            return
        self._proposed, self._suspected, self._wants_probe = [], None, False
        if draft.leased is not None:
            until_ms = draft.now_ms + self._policy.probe_lease_ms
            self._ready.append((draft.leased, until_ms))
        self._text, self._is_stored = draft.text, True
        self._enter(draft.state, draft.now_ms)

    def learn(self, text: bytes, now_ms: int) -> bool:
        """Learn what the store holds; of two states that of the later generation holds.

        Returns:
            ``False`` if the text is new here and not a state; the next sync replaces
            it.
        """
        if text == self._text:
            return True
        self._text = text
        stored = read_circuit(text) if text else None
        if stored is not None and stored.generation >= self.state.generation:
            self._enter(self._bounded(stored, now_ms), now_ms)
        self._compare()
        return stored is not None or not text

    def clock_jumped(self, now_ms: int, by_ms: int) -> None:
        """Move instants to a new clock of the store, so that no wait gets longer.

        After a jump ahead a cooldown may end early; then probes ask.

        Args:
            now_ms: The time, by the new clock.
            by_ms: How far the new clock is ahead of the old one; < 0 if behind.
        """
        back_ms = max(0, -by_ms)
        self.state = self._bounded(self.state, now_ms, earlier_ms=back_ms)
        self._ready = [(permit, until - back_ms) for permit, until in self._ready]
        if self._ramp is not None:
            self._ramp.from_ms += by_ms
        self._compare()

    def _bounded(
        self, state: CircuitState, now_ms: int, *, earlier_ms: int = 0
    ) -> CircuitState:
        return bounded(
            self._policy,
            state,
            now_ms,
            earlier_ms=earlier_ms,
            longest_ms=self._longest_ms,
        )

    def _compare(self) -> None:
        """Note whether the store holds this process's state; else it is proposed."""
        is_first = not self._text and self.state == Closed()
        self._is_stored = is_first or circuit_text(self.state) == self._text

    def _enter(self, state: CircuitState, now_ms: int) -> None:
        was_closed = isinstance(self.state, Closed)
        if isinstance(state, Closed):
            self._wants_probe = False
            length_ms = self._policy.ramp_ms
            if not was_closed and length_ms:
                self._ramp = Ramp(self.peak_per_ms, length_ms, now_ms)
        else:
            self._ramp = None
        if state.generation != self.state.generation:
            self._suspected = None
        self.state = state
