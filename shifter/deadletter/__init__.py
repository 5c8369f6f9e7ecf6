"""Dead letters: what failed and why, and how it goes back.

What a program needs beside `shifter.Shifter.dead_letters` is here.
"""

from __future__ import annotations

from shifter.deadletter.dead_letters import DeadLetters
from shifter.deadletter.filter.fields import Letter
from shifter.deadletter.gate import ReplayGate, StopPolicy
from shifter.deadletter.journal import Run
from shifter.deadletter.pace import PacePolicy
from shifter.deadletter.plan import Forecast, ReplayPolicy
from shifter.deadletter.reader import Progress, Selection
from shifter.deadletter.triage import Group, Triage

__all__ = [
    "DeadLetters",
    "Forecast",
    "Group",
    "Letter",
    "PacePolicy",
    "Progress",
    "ReplayGate",
    "ReplayPolicy",
    "Run",
    "Selection",
    "StopPolicy",
    "Triage",
]
