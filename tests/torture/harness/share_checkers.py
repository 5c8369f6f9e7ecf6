"""What jobs of one queue, or of one dependency, may take from the others.

C25: a queue that is idle does not wait behind those that are full, and queues that
share slots hold them by their weights. C12: repeats stay within the retry budget of the
dependency that they call.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.torture.harness.evidence import Evidence, Run
from tests.torture.harness.jobs import BUDGET, CROWD_S
from tests.torture.harness.scenario import LEASE_S, SESSION_S
from tests.torture.harness.violation import Violation

ASIDE: Final = "aside"
CROWD: Final = "crowd"
CROWDED: Final = 200
"""So many jobs of the full queue wait where a job of the idle one is judged."""
JUDGED_LEAST: Final = 20
FETCH_S: Final = 1.5
"""For the fetch of a job, its claim and a busy machine."""
SHARE_SLACK: Final = 0.15
EXCESS_MOST: Final = 0.05
CLAIM_S: Final = 1.0
"""From the moment at which a call takes its retry until its handler starts: a claim.
Retries taken in so much more than a window may begin within it."""
PAID: Final = "paid"


class Aside(NamedTuple):
    """A job of the idle queue beside a full one.

    Attributes:
        job: Its id.
        wait_s: From its acceptance to its first start; or from the first start of any
            job in the worker that ran it, where that worker was started later.
        usual_s: How long that may be where nothing breaks.
        most_s: How long it may be.
    """

    job: str
    wait_s: float
    usual_s: float
    most_s: float


def asides(ev: Evidence) -> list[Aside]:
    """Jobs of the idle queue that were accepted while a full queue had jobs waiting."""
    offered = sorted(a.t for a in ev.accepted.values() if a.kind == CROWD)
    runs = [found for found in ev.runs.values() if found[0].start.kind == CROWD]
    began = sorted(found[0].start.t for found in runs)
    since, until = _played(ev)
    longest_s = max(
        (run.finish.t - run.start.t for found in runs for run in found if run.finish),
        default=CROWD_S,
    )
    deaths = [fault.t for fault in ev.faults if fault.pids]
    alive: dict[int, float] = {}
    for event in ev.by["start"]:
        alive.setdefault(event.pids[0], event.t)
    judged: list[Aside] = []
    for job, answer in ev.accepted.items():
        if answer.kind != ASIDE or not since <= answer.t <= until:
            continue
        waiting = bisect_right(offered, answer.t) - bisect_right(began, answer.t)
        if waiting < CROWDED or job not in ev.runs:
            continue
        run = ev.runs[job][0]
        start, ready = run.start.t, max(answer.t, alive[run.pid])
        first = bisect_left(deaths, answer.t - SESSION_S)
        has_died = first < len(deaths) and deaths[first] <= start
        # A worker that dies leaves its claims behind for a lease, and its partitions
        # for a session where no successor takes its name.
        slack_s = max(LEASE_S, SESSION_S) if has_died else 0.0
        wait_s, usual_s = max(0.0, start - ready), longest_s + FETCH_S
        judged.append(Aside(job, wait_s, usual_s, usual_s + slack_s))
    return judged


def _played(ev: Evidence) -> tuple[float, float]:
    """From the beginning of the faults to the heal, also where the last came early."""
    begun, healed = ev.span
    for phase in ev.by["phase"]:
        if phase.kind == "faults":
            begun = min(begun, phase.t)
        elif phase.kind == "healed":
            healed = max(healed, phase.t)
    return begun, healed


def c25_aside(ev: Evidence) -> Iterator[Violation]:
    """A job of an idle queue starts within the time of one running job.

    A fetch comes on top, and where a worker dies, a lease or a session; more than half
    of the jobs start without that. The time in which a worker starts does not count.
    """
    if not ev.scenario.shares:
        return
    judged = asides(ev)
    if len(judged) < JUDGED_LEAST:
        text = f"only {len(judged)} jobs of the idle queue beside {CROWDED} waiting"
        yield Violation("C25", text)
    late = [one.wait_s for one in judged if one.wait_s > one.usual_s]
    if 2 * len(late) > len(judged):
        text = f"{len(late)} of {len(judged)} waited longer than one job and a fetch"
        yield Violation("C25", text)
    for one in judged:
        if one.wait_s > one.most_s:
            text = f"waited {one.wait_s:.1f} s behind others, not {one.most_s:.1f} s"
            yield Violation("C25", text, one.job)


def slot_shares(ev: Evidence) -> dict[str, float]:
    """The share of each queue in the slot time of those that share slots.

    Counted while all of them have jobs waiting. A run whose worker died ends with it.
    """
    if not ev.scenario.shares:
        return {}
    since, until = _contended(ev)
    deaths: dict[int, list[float]] = {}
    for fault in ev.faults:
        for pid in fault.pids:
            deaths.setdefault(pid, []).append(fault.t)
    held = dict.fromkeys(ev.scenario.shares, 0.0)
    for runs in ev.runs.values():
        for run in runs:
            if run.start.kind in held:
                end = _end(run, deaths.get(run.pid, []), until)
                begin = max(since, run.start.t)
                held[run.start.kind] += max(0.0, min(until, end) - begin)
    total = sum(held.values())
    return {name: held_s / total for name, held_s in held.items()} if total else {}


def _contended(ev: Evidence) -> tuple[float, float]:
    """From when on all queues that share slots have had jobs waiting, to the heal."""
    since, until = _played(ev)
    for queue in ev.scenario.shares:
        offered = sorted(a.t for a in ev.accepted.values() if a.kind == queue)
        began = sorted(
            runs[0].start.t for runs in ev.runs.values() if runs[0].start.kind == queue
        )
        for n, t in enumerate(offered):
            if t >= since and n + 1 - bisect_right(began, t) >= CROWDED / 5:
                since = max(since, t)
                break
        else:
            since = until
    return since, until


def _end(run: Run, deaths: list[float], until: float) -> float:
    if run.finish is not None:
        return run.finish.t
    return next((t for t in deaths if t >= run.start.t), until)


def c25_shares(ev: Evidence) -> Iterator[Violation]:
    """Queues that always have jobs waiting hold slots by their weights."""
    weights, shares = ev.scenario.shares, slot_shares(ev)
    if weights and not shares:
        yield Violation("C25", "no queues shared slots: this run shows nothing of it")
    total = sum(weights.values())
    for name, share in shares.items():
        due = weights[name] / total
        if abs(share - due) > SHARE_SLACK:
            text = f"{name} held {share:.0%} of the slot time, its weight is {due:.0%}"
            yield Violation("C25", text)


def budget_excess(ev: Evidence) -> float | None:
    """Repeats of the worst window over what the budget allows; ``None`` for no calls.

    Each call is a first or a repeat by the history, not by what the product says. A
    run that starts again because its worker died is a first one: see `_is_repeat`.
    """
    firsts: list[float] = []
    repeats: list[float] = []
    for call in ev.by["call"]:
        is_extra = _is_repeat(ev, call.job, call.t)
        if is_extra is None:
            is_extra = bool(call.facts["extra"])
        (repeats if is_extra else firsts).append(call.t)
    if not firsts:
        return None
    window_s, worst = BUDGET.ttl_ms / 1_000, -1.0
    for place, t in enumerate(repeats):
        made = place + 1 - bisect_right(repeats, t - window_s)
        paid_s = window_s + CLAIM_S
        earning = bisect_right(firsts, t) - bisect_right(firsts, t - paid_s)
        allowed = BUDGET.ratio * earning + BUDGET.floor_per_s * paid_s
        worst = max(worst, made / allowed - 1)
    return round(worst, 3)


def _is_repeat(ev: Evidence, job: str, t: float) -> bool | None:
    """Whether a call at an instant repeats one that its handler ended.

    Returns:
        ``None`` where only the product can tell: a run failed, and its worker died so
        soon afterwards that the failure may not have been written down.
    """
    before = [run for run in ev.runs.get(job, ()) if run.start.t < t]
    ended = [run for run in before if run.finish is not None]
    if not ended:
        return False
    finished = [run.finish.t for run in ended if run.finish is not None]
    is_cut = [
        bool(ev.was_broken(run.pid, end, t))
        for run, end in zip(ended, finished, strict=True)
    ]
    return None if all(is_cut) else True


def c12_budget(ev: Evidence) -> Iterator[Violation]:
    """Repeats stay within the budget; all agree on which calls are repeats.

    A repeat after `Throttled` counts like any other one, although it is not charged as
    an attempt. A run that was cut by the death of its worker was no failure of the
    dependency: the one that follows it is a first one.
    """
    excess = budget_excess(ev)
    if excess is None:
        if ev.scenario.mix == PAID:
            yield Violation("C12", "nothing was called: this run shows nothing of it")
        return
    if excess > EXCESS_MOST:
        yield Violation("C12", f"{excess:.0%} more repeats than the budget allows")
    repeats = 0
    for call in ev.by["call"]:
        is_extra, said = _is_repeat(ev, call.job, call.t), bool(call.facts["extra"])
        repeats += bool(is_extra)
        if is_extra is not None and is_extra is not said:
            text = "a repeat ran as a first attempt"
            if said:
                text = "a first attempt, or a run after a death, ran as a repeat"
            yield Violation("C12", text, call.job)
    if not repeats:
        yield Violation("C12", "nothing was repeated: this run shows nothing of it")
