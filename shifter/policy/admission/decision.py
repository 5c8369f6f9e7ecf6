"""Run, defer, degrade or shed: the one decision, as one table of rules.

The rules are applied in order. A rule finds nothing, or makes the decision, or gives a
reason why the job is not run here. With such a reason the job is deferred if its lane
can finish it in time; otherwise it gets the cheaper answer, or it is shed with the time
after which it may be submitted again.

`decide` applies the rules until one finds something, `explain` shows all of them with
their numbers. Both use one table, so an explanation cannot differ from the decision. A
rule reads `AdmissionInput` only, so the decision is a function of values: it uses no
clock, no draw and no store.

Source: design record, section 6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from shifter.model.answer import Quality
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.policy.admission import input as values
from shifter.policy.admission.input import (
    DEFER,
    DEGRADE,
    RUN,
    SHED,
    AdmissionInput,
    Decision,
)
from shifter.policy.admission.lane_outlook import (
    OutlookPolicy,
    eta_s,
    is_feasible,
    retry_after_s,
)
from shifter.policy.protection.quality import is_spared

_FULL: Final = Quality.FULL
_CRITICAL: Final = Priority.CRITICAL.rank
# Reasons not to run a job here which do not explain a shed: that has its own reason,
# the lane, unless the job's deadline comes before it may start.
_ONLY_HERE: Final = frozenset(
    {Reason.ACCEPTED, Reason.NOT_DUE, Reason.NOT_INLINE, Reason.WINDOW_CLOSED}
)


_RUN: Final = Decision(RUN, Reason.ACCEPTED)
_EXPIRED: Final = Decision(SHED, Reason.EXPIRED)


def decide(policy: OutlookPolicy, case: AdmissionInput) -> Decision:
    """Run, defer, degrade or shed.

    Pure. Constant time.

    >>> decide(OutlookPolicy(), AdmissionInput(rank=2, level=250))[:2]
    (<Verdict.RUN: 'run'>, <Reason.ACCEPTED: 'accepted'>)
    """
    for apply in _APPLIED:
        found = apply(policy, case)
        if found is not None:
            return found if isinstance(found, Decision) else _later(policy, case, found)
    return _RUN


def _later(policy: OutlookPolicy, case: AdmissionInput, reason: Reason) -> Decision:
    may_wait = case.can_wait and case.rank >= case.lane_floor
    lane, left_s, opens_s = case.lane, case.left_s, case.opens_s
    if may_wait and is_feasible(policy, lane, left_s, opens_s=opens_s):
        in_s = eta_s(lane)
        return Decision(DEFER, reason, None if in_s is None else max(in_s, opens_s))
    if case.has_fallback and case.fallbacks_free > 0:
        return Decision(DEGRADE, reason)
    is_for_time = left_s is not None and opens_s >= left_s
    if reason in _ONLY_HERE and not is_for_time:
        reason = Reason.OVERLOADED
    return _shed(policy, case, reason)


def _shed(policy: OutlookPolicy, case: AdmissionInput, reason: Reason) -> Decision:
    after_s = retry_after_s(
        policy,
        case.lane,
        case.left_s,
        opens_s=case.opens_s,
        shut_s=case.needs.reopen_s or 0.0,
        u=case.u,
    )
    return Decision(SHED, reason, None, after_s)


_Finding: TypeAlias = Decision | Reason | None
"""The decision, a reason not to run the job here, or nothing."""


class _Rule(NamedTuple):
    name: str
    apply: Callable[[OutlookPolicy, AdmissionInput], _Finding]
    shows: Callable[[AdmissionInput], str]


def _deadline(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    left_s = case.left_s
    return _EXPIRED if left_s is not None and left_s <= 0 else None


def _budget(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    if case.is_extra and not case.needs.has_budget:
        # Deferred, the retry would be run later; with a time to retry, another would
        # come.
        return Decision(SHED, Reason.BUDGET_EXHAUSTED)
    return None


def _circuit(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    if not case.needs.is_open:
        return None
    if case.has_fallback and case.fallbacks_free > 0:
        return Decision(DEGRADE, Reason.CIRCUIT_OPEN)
    return Reason.CIRCUIT_OPEN


def _due(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    return case.waits_for


def _inline(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    return None if case.runs_here else Reason.NOT_INLINE


def _quality(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    quality = case.needs.quality
    if quality is _FULL or not case.has_fallback:
        return None
    if is_spared(quality, case.rank) and case.fallbacks_free > 0:
        return Decision(DEGRADE, Reason.QUALITY_REDUCED)
    return None


def _level(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    return Reason.OVERLOADED if case.level < case.threshold else None


def _floor(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    return Reason.OVERLOADED if case.rank < case.floor else None


def _lag(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    is_late = case.lag_ms >= case.lag_limit_ms
    return Reason.OVERLOADED if is_late and case.rank < _CRITICAL else None


def _dependency(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    return None if case.needs.has_room else Reason.LIMIT_REACHED


def _limit(_: OutlookPolicy, case: AdmissionInput) -> _Finding:
    return Reason.LIMIT_REACHED if case.free <= 0 else None


_HERE: Final = (
    _Rule("deadline", _deadline, values.show_deadline),
    _Rule("retry budget", _budget, values.show_budget),
    _Rule("circuit", _circuit, values.show_circuit),
    _Rule("due time", _due, values.show_due),
    _Rule("inline", _inline, values.show_inline),
    _Rule("quality", _quality, values.show_quality),
    _Rule("level", _level, values.show_level),
    _Rule("no inversion", _floor, values.show_floor),
    _Rule("event loop", _lag, values.show_lag),
    _Rule("dependency limit", _dependency, values.show_dependency),
    _Rule("local limit", _limit, values.show_limit),
)
_APPLIED: Final = tuple(rule.apply for rule in _HERE)


class RuleFinding(NamedTuple):
    """One rule, as `explain` shows it.

    Attributes:
        rule: The name of the rule.
        found: The numbers that the rule reads.
        says: The outcome of the rule; empty if it finds nothing.
        is_decisive: Whether this rule made the decision.
    """

    rule: str
    found: str
    says: str
    is_decisive: bool


def explain(
    policy: OutlookPolicy, case: AdmissionInput
) -> tuple[Decision, list[RuleFinding]]:
    """The decision and every rule with its numbers, in the order of their application.

    Pure. Uses the table that `decide` uses.
    """
    decision, findings, reason = decide(policy, case), list[RuleFinding](), None
    is_settled = False
    for rule in _HERE:
        found = rule.apply(policy, case)
        if isinstance(found, Decision):
            text = f"{found.verdict.value}: {found.reason.value}"
        else:
            text = "" if found is None else f"not here: {found.value}"
            reason = found if reason is None and not is_settled else reason
        is_first = found is not None and not is_settled
        is_settled = is_settled or found is not None
        findings.append(RuleFinding(rule.name, rule.shows(case), text, is_first))
    later = _later(policy, case, Reason.ACCEPTED if reason is None else reason)
    text = (
        f"otherwise: {later.verdict.value}" if reason is None else later.verdict.value
    )
    shown = values.show_lane(policy, case)
    findings.append(RuleFinding("lane", shown, text, reason is not None))
    return decision, findings
