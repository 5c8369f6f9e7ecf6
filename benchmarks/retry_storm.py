"""Three layers that each retry, naively and within the fleet's budget, side by side.

``python -m benchmarks.retry_storm [docs/retry-storm.png]`` plays both on a Redis of its
own and draws what the dependency saw. The picture needs the ``examples`` extra.

Each layer makes up to four attempts of the one below, so a request may come to the
dependency 64 times. A layer that retries marks the call: for the budget of the dependency a call
is a first attempt only if it is one in every layer.
"""

from __future__ import annotations

import sys
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.fleet_history import Plan, Played
from benchmarks.fleet_play import play
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.circuit.evidence import EvidencePolicy
from shifter.policy.protection.dependency import Dependency
from stack.redis import RedisServer

LAYERS: Final = 3
ATTEMPTS: Final = 4
PER_S: Final = 200
DOWN: Final = (4.0, 14.0)
SECONDS: Final = 26.0
WINDOW: Final = 10
# The circuit would end the storm at once; here the budget is looked at alone.
BANK: Final = Dependency(
    "bank",
    evidence=EvidencePolicy(consecutive_failures=10**6, min_calls=10**9),
    budget=BudgetPolicy(ratio=0.2, floor_per_s=1),
)


class Storm(NamedTuple):
    """Both runs."""

    naive: Played
    budgeted: Played


def storm(redis_url: str, folder: Path) -> Storm:
    """Play both, one after the other, in four processes each."""
    runs = []
    for is_naive in (True, False):
        plan = Plan(
            redis_url,
            f"storm{uuid.uuid4().hex[:8]}",
            processes=4,
            per_s=PER_S,
            seconds=SECONDS,
            down=[DOWN],
            is_naive=is_naive,
            attempts=ATTEMPTS**LAYERS,
        )
        runs.append(play(plan, BANK, folder))
    return Storm(*runs)


def amplification(played: Played) -> float:
    """Calls over first attempts, of the worst ten seconds: what a budget is kept in."""
    calls, firsts = Counter[int](), Counter[int]()
    for call in played.calls:
        calls[int(call.at_s)] += 1
        firsts[int(call.at_s)] += not call.is_extra
    spans = [range(begin, begin + WINDOW) for begin in range(int(SECONDS) - WINDOW)]
    return max(
        sum(calls[n] for n in span) / sum(firsts[n] for n in span) for span in spans
    )


def draw(played: Storm, path: Path) -> None:
    """Draw what the dependency saw, a point each half second."""
    from matplotlib import pyplot as plt  # of the examples extra

    figure, axes = plt.subplots(figsize=(7, 3.2), dpi=110)
    axes.axvspan(*DOWN, color="0.92", label="dependency down")
    for run, text, color in (
        (played.naive, "3 layers, 4 attempts each", "tab:red"),
        (played.budgeted, "the same with a retry budget", "tab:blue"),
    ):
        steps = [step / 2 for step in range(int(SECONDS * 2) - 1)]
        rates = [run.per_s(step, step + 0.5) / PER_S for step in steps]
        axes.plot(steps, rates, color=color, label=text)
    axes.set(xlabel="seconds", ylabel="calls over first attempts", yscale="log")
    axes.set_yticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Play and draw."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/retry-storm.png")
    with RedisServer() as redis, tempfile.TemporaryDirectory() as folder:
        played = storm(redis.url, Path(folder))
    draw(played, path)
    naive, budgeted = map(amplification, played)
    sys.stdout.write(f"naive {naive:.1f} x, with the budget {budgeted:.2f} x: {path}\n")


if __name__ == "__main__":
    main()
