"""The circuit of one dependency that the fleet shares, as one process sees it.

Calls are decided by the state of the last sync. The results of probes are kept until
the next sync, which applies them to that state and proposes the result. If another
process was faster, they are applied again to the state that it wrote.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from shifter.fleet.shared_state import (
    OverrideCell,
    circuit_cell,
    circuit_text,
    read_circuit,
)
from shifter.model.fleet import Proposal
from shifter.policy.protection.circuit import (
    CircuitPolicy,
    CircuitRefusal,
    CircuitState,
    Closed,
    HalfOpen,
    Open,
    Permit,
    Probe,
    admit,
    settle,
    trip,
)
from shifter.policy.protection.evidence import CallOutcome
from shifter.policy.protection.ramp import Ramp

ASK_AGAIN_MS = 300
"""Wait for a probe's lease: one sync (200 ms) and its round trip."""


class Probed(NamedTuple):
    """How a probe of this process ended."""

    permit: Permit
    outcome: CallOutcome
    retry_after_ms: int | None


class _Draft(NamedTuple):
    """A proposal that was not answered yet."""

    state: CircuitState
    text: bytes
    leased: Permit | None
    until_ms: int


class SharedCircuit:
    """The fleet's circuit; instants are by the store's clock. Belongs to one thread.

    Args:
        name: The dependency's.
        policy: The circuit's.

    Attributes:
        state: The state of the last sync.
        by_hand: The operator's override; one that has ended has no effect.
        peak_per_ms: This process's calls a millisecond before the circuit opened; 0 if
            that is not known.
    """

    def __init__(self, name: str, policy: CircuitPolicy) -> None:
        self._cell, self._policy = circuit_cell(name), policy
        self.state: CircuitState = Closed()
        self.by_hand: OverrideCell | None = None
        self._text = b""
        self._is_told = True
        self._probed: list[Probed] = []
        self._in_flight: list[Probed] = []
        self._draft: _Draft | None = None
        self._ready: list[tuple[Permit, int]] = []
        self._wants_probe = False
        self._suspected: tuple[int, int | None] | None = None
        self._ramp: Ramp | None = None
        self.peak_per_ms = 0.0

    @property
    def generation_if_calm(self) -> int:
        """That of a closed circuit that nothing is odd about; -1 of any other."""
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
        """A permit that was not used after all."""
        if not permit.probe and self._ramp is not None:
            self._ramp.give_back()
        elif permit.probe:
            until_ms = now_ms + self._policy.probe_lease_ms // 2
            self._ready.append((permit, until_ms))

    def ended(self, outcome: CallOutcome) -> None:
        """Note how a call ended that was no probe: the ramp heeds it."""
        if self._ramp is not None and outcome is not CallOutcome.IGNORED:
            self._ramp.ended(ok=outcome is CallOutcome.SUCCESS)

    def record(
        self, permit: Permit, outcome: CallOutcome, retry_after_ms: int | None
    ) -> None:
        """Note how a probe ended; other calls are evidence, not votes."""
        if permit.probe:
            self._probed.append(Probed(permit, outcome, retry_after_ms))

    def suspect(self, retry_after_ms: int | None = None) -> None:
        """The fleet is convinced: open it, unless it changed meanwhile."""
        self._suspected = (self.state.generation, retry_after_ms)

    @property
    def is_urgent(self) -> bool:
        """Whether the next sync should not wait."""
        return bool(self._probed) or self._suspected is not None

    @property
    def has_news(self) -> bool:
        """Whether there may be something to propose."""
        # Of a thousand at each sync: nothing is called.
        is_settled = self._is_told and not self._wants_probe
        return not is_settled or self._suspected is not None or bool(self._probed)

    def propose(self, now_ms: int, u: float) -> Proposal | None:
        """What the cell should become; ``None`` to leave it."""
        self._in_flight, self._probed = self._probed, []
        state = self.state
        for probed in self._in_flight:
            state = settle(
                self._policy,
                state,
                probed.permit,
                probed.outcome,
                now_ms=now_ms,
                u=u,
                retry_after_ms=probed.retry_after_ms,
            )
        if self._suspected is not None:
            generation, after_ms = self._suspected
            if isinstance(state, Closed) and state.generation == generation:
                state = trip(
                    self._policy, state, now_ms=now_ms, u=u, retry_after_ms=after_ms
                )
        leased = None
        if self._wants_probe and not isinstance(state, Closed):
            state, answer = admit(self._policy, state, now_ms=now_ms)
            leased = answer if isinstance(answer, Permit) else None
        return self._drafted(state, leased, now_ms)

    def _drafted(
        self, state: CircuitState, leased: Permit | None, now_ms: int
    ) -> Proposal | None:
        text = circuit_text(state)
        is_new = not self._text and state == Closed()
        if is_new or text == self._text:
            self._draft, self._in_flight, self._suspected = None, [], None
            return None
        until_ms = now_ms + self._policy.probe_lease_ms
        self._draft = _Draft(state, text, leased, until_ms)
        return Proposal(self._cell, self._text, text)

    def answered(self, *, accepted: bool) -> None:
        """What became of the proposal; ``False`` also if that is not known."""
        draft, self._draft = self._draft, None
        if not accepted or draft is None:
            self._probed = self._in_flight + self._probed
            self._in_flight = []
            return
        self._in_flight, self._suspected, self._wants_probe = [], None, False
        if draft.leased is not None:
            self._ready.append((draft.leased, draft.until_ms))
        self._text = draft.text
        self._become(draft.state, draft.until_ms - self._policy.probe_lease_ms)
        self._is_told = True

    def learn(self, text: bytes, now_ms: int) -> bool:
        """What the store holds; of two states the later one holds.

        Returns:
            ``False`` for a text that is new here and none of ours; the next sync
            replaces it.
        """
        if text == self._text:
            return True
        self._text = text
        theirs = read_circuit(text) if text else None
        if theirs is not None and theirs.generation >= self.state.generation:
            self._become(self._bounded(theirs, now_ms), now_ms)
        self._note_whether_told()
        return theirs is not None or not text

    def clock_jumped(self, now_ms: int, by_ms: int) -> None:
        """The store's clock is another one: what was to last a while, lasts no longer.

        After a jump ahead it may end early: then probes ask.

        Args:
            now_ms: By the new clock.
            by_ms: How far ahead of the old one; < 0 behind.
        """
        back_ms = max(0, -by_ms)
        self.state = self._bounded(self.state, now_ms, earlier_ms=back_ms)
        self._ready = [(permit, until - back_ms) for permit, until in self._ready]
        if self._ramp is not None:
            self._ramp.from_ms += by_ms
        self._note_whether_told()

    def _note_whether_told(self) -> None:
        is_first = not self._text and self.state == Closed()
        self._is_told = is_first or circuit_text(self.state) == self._text

    def _become(self, state: CircuitState, now_ms: int) -> None:
        was_closed = isinstance(self.state, Closed)
        if isinstance(state, Closed):
            if not was_closed and self._policy.ramp_ms:
                length_ms = self._policy.ramp_ms
                self._ramp = Ramp(self.peak_per_ms, length_ms, now_ms)
            self._wants_probe = False
        else:
            self._ramp = None
        if state.generation != self.state.generation:
            self._suspected = None
        self.state = state

    def _bounded(
        self, state: CircuitState, now_ms: int, *, earlier_ms: int = 0
    ) -> CircuitState:
        """Clamp instants read from the store to the local policy.

        A store with a wrong clock must not block a dependency for longer than this
        process would. Instants are moved back by ``earlier_ms`` first.
        """
        policy = self._policy
        if isinstance(state, Open):
            longest_ms = max(policy.max_cooldown_ms, policy.max_retry_after_ms)
            until_ms = min(state.until_ms - earlier_ms, now_ms + longest_ms)
            return replace(state, until_ms=until_ms)
        if isinstance(state, HalfOpen):
            last_ms = now_ms + policy.probe_lease_ms
            probes = (
                Probe(n, min(until_ms - earlier_ms, last_ms))
                for n, until_ms in state.probes
            )
            return replace(state, probes=tuple(probes))
        return state
