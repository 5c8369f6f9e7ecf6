"""Dead letters: what failed and why, and how it goes back.

What a program needs beside `shifter.Shifter.dead_letters` is here.
"""

from __future__ import annotations

from shifter.deadletter.dead_letters import DeadLetters
from shifter.deadletter.gate import ReplayGate, StopPolicy
from shifter.deadletter.journal import Run
from shifter.deadletter.letter import Letter
from shifter.deadletter.pace import PacePolicy
from shifter.deadletter.plan import Forecast, ReplayPolicy
from shifter.deadletter.reader import ScanProgress, Selection
from shifter.deadletter.triage import FailureGroup, Triage

__all__ = [
    "DeadLetters",
    "FailureGroup",
    "Forecast",
    "Letter",
    "PacePolicy",
    "ReplayGate",
    "ReplayPolicy",
    "Run",
    "ScanProgress",
    "Selection",
    "StopPolicy",
    "Triage",
]
