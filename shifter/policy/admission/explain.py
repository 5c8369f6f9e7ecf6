"""The numbers that each rule of an admission decision looks at, as people read them."""

from __future__ import annotations

from shifter.policy.admission.input import AdmissionInput
from shifter.policy.admission.lane_outlook import OutlookPolicy, eta_s


def deadline(case: AdmissionInput) -> str:
    """Time left."""
    left_s = case.left_s
    return "none" if left_s is None else f"{left_s:.1f} s left"


def budget(case: AdmissionInput) -> str:
    """Who pays for an extra execution."""
    if not case.is_extra:
        return "a first execution, not charged"
    return "can pay" if case.needs.has_budget else "exhausted"


def circuit(case: AdmissionInput) -> str:
    """State of the circuits."""
    return "open" if case.needs.is_open else "closed"


def due(case: AdmissionInput) -> str:
    """Whether it may start now."""
    if case.waits_for is None:
        return "may start now"
    return f"{case.waits_for.value}: may start in {case.opens_s:.1f} s"


def inline(case: AdmissionInput) -> str:
    """Whether this process can run it."""
    return "can run here" if case.runs_here else "cannot run here"


def quality(case: AdmissionInput) -> str:
    """The fleet's quality, and whether there is a cheaper answer."""
    fallback = "a fallback" if case.has_fallback else "no fallback"
    return f"{case.needs.quality.value}, {fallback}"


def level(case: AdmissionInput) -> str:
    """The job's level and the threshold."""
    return f"level {case.level}, threshold {case.threshold}"


def floor(case: AdmissionInput) -> str:
    """What was shed in this window."""
    highest = case.floor
    was = "nothing shed" if highest < 0 else f"rank {highest} was shed"
    return f"rank {case.rank}, {was} in this window"


def lag(case: AdmissionInput) -> str:
    """The event loop's lag."""
    return f"lag {case.lag_ms:.1f} ms, limit {case.lag_limit_ms:.0f} ms"


def dependency(case: AdmissionInput) -> str:
    """Room in the dependencies' limits."""
    return "has room" if case.needs.has_room else "full"


def limit(case: AdmissionInput) -> str:
    """Free slots of this process."""
    return f"{case.free} of {case.limit} slots free"


def lane(policy: OutlookPolicy, case: AdmissionInput) -> str:
    """What waits, how fast it goes, and whether that is in time."""
    facts, left_s = case.lane, case.left_s
    if facts is None:
        return "not known"
    expected_s = eta_s(facts)
    rate = "rate not known" if facts.rate_per_s is None else f"{facts.rate_per_s:.1f}/s"
    text = f"{facts.waiting} waiting, {rate}, oldest {facts.oldest_age_s:.1f} s"
    if expected_s is not None:
        text += f", starts in {expected_s:.1f} s x {policy.safety:g}"
    return text if left_s is None else f"{text}, deadline in {left_s:.1f} s"
