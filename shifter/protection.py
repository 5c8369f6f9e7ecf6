"""Every policy that an app, a dependency or an execution window takes.

A policy is a frozen dataclass of settings that checks its values when it is made. Pass
one to `Shifter` (``admission``, ``quality``) or to ``app.dependency`` (the others)::

    from shifter import Shifter
    from shifter.protection import BudgetPolicy, LimitPolicy

    app = Shifter("shop")
    mailer = app.dependency("mailer", limit=LimitPolicy(), budget=BudgetPolicy())

Policies of one process's admission: `AdmissionPolicy`, with `PrioritizerPolicy` (which
levels are admitted under load), `OutlookPolicy` (whether a lane finishes a job in time)
and `BudgetPolicy` (retries of calls from outside).

Policies of one dependency: `EvidencePolicy` (when its failures open the circuit), with
`WindowPolicy` (how long calls are counted), `CircuitPolicy` (how the circuit opens and
closes), `LimitPolicy` (concurrent calls), `BudgetPolicy` and `ThrottlePolicy` (extra
executions), `RatePolicy` (calls a second) and `FailureBurstPolicy` (dead letters of one
kind). `BalancePolicy` shares its calls between its endpoints, with `EjectionPolicy`
(when an endpoint gets no calls for a while). `Protection` names what ``dark`` takes,
and a `FailureCause` says why a circuit opened or an endpoint was ejected.

Policies of the fleet: `QualityPolicy` (when load lowers the quality of answers).
"""

from __future__ import annotations

from shifter.policy.admission.admitter import AdmissionPolicy
from shifter.policy.admission.lane_outlook import OutlookPolicy
from shifter.policy.admission.prioritizer import PrioritizerPolicy
from shifter.policy.balance.ejection import EjectionPolicy
from shifter.policy.balance.policy import BalancePolicy
from shifter.policy.delivery.failure_burst import FailureBurstPolicy
from shifter.policy.failure_cause import FailureCause
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.circuit.evidence import EvidencePolicy
from shifter.policy.protection.circuit.policy import CircuitPolicy
from shifter.policy.protection.dependency import Protection
from shifter.policy.protection.limit import LimitPolicy
from shifter.policy.protection.quality import QualityPolicy
from shifter.policy.protection.rate import RatePolicy
from shifter.policy.protection.throttle import ThrottlePolicy
from shifter.policy.sliding_window import WindowPolicy

__all__ = [
    "AdmissionPolicy",
    "BalancePolicy",
    "BudgetPolicy",
    "CircuitPolicy",
    "EjectionPolicy",
    "EvidencePolicy",
    "FailureBurstPolicy",
    "FailureCause",
    "LimitPolicy",
    "OutlookPolicy",
    "PrioritizerPolicy",
    "Protection",
    "QualityPolicy",
    "RatePolicy",
    "ThrottlePolicy",
    "WindowPolicy",
]
