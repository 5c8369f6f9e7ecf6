"""What must hold of every history: each checker is a function to its violations.

The numbers are those of the test plan. A violation names the job it is about, so that
its story can be told; what is allowed under which fault is said at the checker.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from shifter.policy.delivery.claim_state import (
    FENCES_PER_MS,
)
from tests.torture.harness.event import Event
from tests.torture.harness.evidence import TERMINAL, Evidence, Run, committed_at
from tests.torture.harness.jobs import EXHAUSTED_ATTEMPTS, FLAKY_FAILS
from tests.torture.harness.scenario import RECOVERY_S, WINDOW_S
from tests.torture.harness.share_checkers import c12_budget, c25_aside, c25_shares
from tests.torture.harness.violation import Violation

ACCEPT_S: Final = 15.0
"""The default accept timeout, and some time for a busy machine."""
START_EPSILON_MS: Final = 150
"""From the decision to start a job to the first line of its handler."""
RSS_MIB: Final = 300
CRASHES_MOST: Final = 3
_MAX_ATTEMPTS: Final = {
    "flaky": FLAKY_FAILS + 2,
    "exhausted": EXHAUSTED_ATTEMPTS,
    "keyed": 5,
    "overtime": 5,
    "deadly": 9,
}
_DEFAULT_ATTEMPTS: Final = 4
_MARK_S: Final = 5.0
"""How soon after its last word a run is marked as ended, on a busy machine."""
_PROMPT: Final = ("plain", "once", "keyed")
_SETTLED_AFTER: Final = 10
"""Samples, one a second, after which a worker has all its clients and threads."""
_GROWTH_MOST: Final = {"files": 40, "threads": 20}


Checker = Callable[[Evidence], Iterator[Violation]]


def c1_lost(ev: Evidence) -> Iterator[Violation]:
    """Every job that was accepted reaches an end; every bad record a dead letter."""
    for job, answer in ev.accepted.items():
        if ev.state(job) is None:
            yield Violation("C1", f"{answer.kind} was accepted and is lost", job)
    for put in ev.by["put"]:
        if put.outcome == "ok" and put.digest not in ev.letters:
            yield Violation("C1", "a record nobody can read left no dead letter")


def c2_two_ends(ev: Evidence) -> Iterator[Violation]:
    """Exactly one end: an effect, or a dead letter, or a state without either.

    A worker that dies between an effect and its mark may leave an effect behind, and
    the job end otherwise afterwards; only then. Letters written twice, because the
    writer died before its mark, count once.
    """
    for job in ev.accepted:
        state, runs = ev.state(job), ev.runs.get(job, [])
        letters = ev.letters.get(job, [])
        text = _contradiction(ev, job)
        if text:
            yield Violation("C2", text, job)
        has_effect = any(run.effect is not None for run in runs)
        is_lost = any(letter.reason == "worker_lost" for letter in letters)
        # Who dies between claim and start is lost too, and nobody saw him.
        deaths = ev.broken_since(ev.invoked[job].t) if is_lost else 0
        ended_without = state in ("dead", "expired", "cancelled")
        was_cut = deaths >= CRASHES_MOST or _any_cut(ev, runs)
        if ended_without and has_effect and not was_cut:
            yield Violation("C2", f"took effect, and ended as {state}", job)
        # Who writes that a job's workers were lost is none of them, and may be lost too.
        is_again = deaths > CRASHES_MOST or _any_cut(ev, runs)
        if len(letters) > 1 and not is_again:
            yield Violation("C2", f"{len(letters)} dead letters of one death", job)
        if is_lost and deaths < CRASHES_MOST:
            yield Violation("C2", "ended as lost, and no worker of it was lost", job)


def _contradiction(ev: Evidence, job: str) -> str:
    """What the claim store says of a job's end and nothing else does."""
    state, letters = ev.state(job), ev.letters.get(job, [])
    if state == "done" and letters:
        return "done, and a dead letter too"
    if state == "done" and ev.effect_of(job) is None:
        return "said to be done, without any effect"
    # Jobs of one idempotency key share a state, and the first one's letter.
    if state == "dead" and ev.identity(job) not in ev.dead_identities:
        return "said to be dead, without a dead letter"
    return ""


def c3_once(ev: Evidence) -> Iterator[Violation]:
    """One effect an identity for what is done, none for what ended before its start."""
    for identity, taken in ev.applied.items():
        if len(taken) > 1:
            yield Violation("C3", f"{identity} took effect twice", taken[0].job)
    for job in ev.accepted:
        never_ran = ev.state(job) in ("expired", "cancelled") and job not in ev.runs
        is_alone = not ev.invoked[job].identity
        if never_ran and is_alone and ev.effect_of(job) is not None:
            yield Violation("C3", "took effect without a run", job)


def c4_repeats(ev: Evidence) -> Iterator[Violation]:
    """An effect is offered again only after its run was cut before its mark."""
    offers: dict[str, list[Run]] = defaultdict(list)
    for runs in ev.runs.values():
        for run in runs:
            if run.effect is not None and run.effect.reason != "stale":
                offers[run.effect.identity].append(run)
    for runs in offers.values():
        runs.sort(key=lambda run: run.start.t)
        for first, again in pairwise(runs):
            since, until = first.start.t, again.start.t
            if not ev.was_broken(first.pid, since, until) and not ev.was_broken(
                again.pid, since, until
            ):
                text = f"took effect again after {until - since:.2f} s, nothing broke"
                yield Violation("C4", text, again.start.job)


def c5_phantoms(ev: Evidence) -> Iterator[Violation]:
    """Nothing runs or ends that nobody asked for, or that was refused."""
    refused = {job for job, answer in ev.answers.items() if answer.outcome == "fail"}
    seen = {event.job for f in ("start", "letter", "status") for event in ev.by[f]}
    for job in seen - {""}:
        if job not in ev.invoked:
            yield Violation("C5", "nobody asked for it", job)
        elif job in refused:
            yield Violation("C5", "it was refused, and came all the same", job)


def c6_integrity(ev: Evidence) -> Iterator[Violation]:
    """A payload arrives as it was sent: at the effect and in the dead letter."""
    for event in (*ev.by["start"], *ev.by["effect"], *ev.by["letter"]):
        asked = ev.invoked.get(event.job)
        if asked is not None and event.digest != asked.digest:
            yield Violation("C6", f"payload changed on the way to {event.f}", event.job)


def c7_after_deadline(ev: Evidence) -> Iterator[Violation]:
    """No start after the deadline; what is late ends as expired."""
    for job, asked in ev.invoked.items():
        if not asked.deadline_ms:
            continue
        # The product's own deadline counts from its reading of the clock, which
        # lies between the question and the answer.
        answer = ev.answers.get(job)
        slack_ms = START_EPSILON_MS
        if answer is not None:
            slack_ms += answer.wall_ms - asked.wall_ms
        for run in ev.runs.get(job, ()):
            late_ms = run.start.wall_ms - asked.deadline_ms
            if late_ms > slack_ms:
                yield Violation("C7", f"started {late_ms} ms after its deadline", job)


def c8_before_due(ev: Evidence) -> Iterator[Violation]:
    """No start before the due time."""
    for job, asked in ev.invoked.items():
        for run in ev.runs.get(job, ()):
            if run.start.wall_ms < asked.due_ms:
                early_ms = asked.due_ms - run.start.wall_ms
                yield Violation("C8", f"started {early_ms} ms before it was due", job)


def c9_attempts(ev: Evidence) -> Iterator[Violation]:
    """Attempts count up by one a failure, and stay below their number.

    The same attempt comes again only after its run was cut or throttled. A job that waits for its
    retry in its place, because its key does, begins anew with another worker: its
    record still says so.
    """
    for job, runs in ev.runs.items():
        kind = runs[0].start.kind
        most = _MAX_ATTEMPTS.get(kind, _DEFAULT_ATTEMPTS)
        if runs[0].start.attempt != 1:
            yield Violation("C9", f"began with attempt {runs[0].start.attempt}", job)
        if max(run.start.attempt for run in runs) > most:
            yield Violation("C9", f"more than {most} attempts", job)
        for before, after in pairwise(_without_zombies(ev, runs)):
            step = after.start.attempt - before.start.attempt
            was_cut = _is_cut(ev, before, after.start.t)
            is_other = before.pid != after.pid
            begins_anew = bool(after.start.key) and after.start.attempt == 1
            finish = before.finish
            is_uncharged = finish is not None and finish.reason == "Throttled"
            is_allowed = step == 1 or (step == 0 and (was_cut or is_uncharged))
            if not is_allowed and not (begins_anew and is_other):
                text = f"attempt {before.start.attempt}, then {after.start.attempt}"
                yield Violation("C9", text, job)


def c10_order(ev: Evidence) -> Iterator[Violation]:
    """Jobs of a key take effect in their order, one at a time, and so do runs of a job.

    A run is over when its handler is, whatever its timeout. A worker that stood still
    may wake up in the middle of a run that another worker was given; then its effect
    must be refused by the fence.
    """
    keys: dict[str, list[Run]] = defaultdict(list)
    for runs in ev.runs.values():
        if runs[0].start.key:
            keys[runs[0].start.key] += runs
    for key, runs in keys.items():
        runs.sort(key=lambda run: run.start.t)
        taken = [
            run.effect for run in runs if run.effect and run.effect.outcome == "ok"
        ]
        taken.sort(key=lambda effect: effect.t)
        for before, after in pairwise(taken):
            if after.kseq < before.kseq and before.job in ev.accepted:
                text = f"{key}: {before.kseq} took effect before {after.kseq}"
                yield Violation("C10", text, after.job)
        yield from _overlaps(ev, runs, "two jobs of its key ran at a time")
    for runs in ev.runs.values():
        # Where nobody could say who may run a job, it may be run twice.
        claimed = [run for run in runs if run.start.fence]
        yield from _overlaps(ev, claimed, "two runs of it ran at a time")
    yield from _stale_effects(ev)


def _overlaps(ev: Evidence, runs: Sequence[Run], text: str) -> Iterator[Violation]:
    for before, after in pairwise(runs):
        is_over = before.finish is None or before.finish.t <= after.start.t
        # One that wakes up beside its successor was refused by the fence at its start.
        is_over |= after.start.reason == "stale"
        if not is_over and not _is_cut(ev, before, after.start.t):
            yield Violation("C10", text, after.start.job)


def _stale_effects(ev: Evidence) -> Iterator[Violation]:
    """What a successor was granted, its predecessor must not change any more."""
    for job, runs in ev.runs.items():
        for before, after in pairwise(runs):
            effect = before.effect
            if (
                effect is not None
                and effect.outcome == "ok"
                and effect.t > after.start.t
                and before.start.fence
                and after.start.fence
            ):
                yield Violation("C10", "an effect of a run that was replaced", job)


def c14_conservation(ev: Evidence) -> Iterator[Violation]:
    """What was accepted is what ended; nothing is left on a lane."""
    ended = sum(ev.counts[state] for state in ev.counts if state != "lost")
    if ended != len(ev.accepted):
        text = f"{len(ev.accepted)} accepted, {ended} ended: {dict(ev.counts)}"
        yield Violation("C14", text)
    for depth in ev.by["depth"]:
        if depth.facts["left"]:
            yield Violation("C14", f"{depth.facts['left']:.0f} left on {depth.topic}")


def c15_frontier(ev: Evidence) -> Iterator[Violation]:
    """Whatever lies below a commit has ended, or was handed over and acknowledged."""
    commits: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for commit in ev.by["commit"]:
        commits[commit.topic, commit.part].append(commit)
    for record in ev.by["record"]:
        told = commits.get((record.topic, record.part))
        at = None if told is None else committed_at(told, record.offset)
        if at is not None and not _has_ended(ev, record, at):
            text = f"{record.topic}/{record.part}@{record.offset} committed, not ended"
            yield Violation("C15", text, record.job)


def _has_ended(ev: Evidence, record: Event, at: Event) -> bool:
    if not record.job:
        letters = ev.letters.get(record.digest, [])
        return any(e.facts["appended_ms"] <= at.wall_ms for e in letters)
    if record.job not in ev.invoked:
        return True  # C5 speaks of it
    effect = ev.effect_of(record.job)
    if effect is not None and effect.t <= at.t:
        return True
    if ev.scenario.forgets and ev.state(record.job) == "expired":
        return True
    status = ev.statuses.get(record.job)
    is_other = status is not None and status.reason in ("cancelled", "expired", "dead")
    if status is not None and is_other and status.facts["updated_ms"] <= at.wall_ms:
        return True
    return any(
        other.facts["turn"] > record.facts["turn"] or other.f == "letter"
        for other in ev.records[record.job]
        if other.facts["appended_ms"] <= at.wall_ms
    )


def c16_liveness(ev: Evidence) -> Iterator[Violation]:
    """Work goes on while it can, and all is well soon after the last heal."""
    recovered_s = recovery_s(ev)
    if recovered_s > RECOVERY_S:
        yield Violation("C16", f"{recovered_s:.1f} s after the heal, not {RECOVERY_S}")
    floor, since = ev.scenario.floor_per_s * WINDOW_S, ev.span[0]
    for start, count in progress(ev):
        if count < floor:
            text = f"{count} effects in the {WINDOW_S:g} s from {start - since:.0f} s"
            yield Violation("C16", text)


def progress(ev: Evidence) -> list[tuple[float, int]]:
    """Effects taken in each whole window of the faults, by its start."""
    since, until = ev.span
    effects = [effect.t for effect in ev.by["effect"] if effect.outcome == "ok"]
    found, start = [], since
    while start + WINDOW_S <= until:
        first = bisect_left(effects, start)
        found.append((start, bisect_left(effects, start + WINDOW_S) - first))
        start += WINDOW_S
    return found


def recovery_s(ev: Evidence) -> float:
    """From the last heal until what was accepted before it, and due, took effect."""
    healed = ev.span[1]
    last = healed
    for job, answer in ev.accepted.items():
        effect = ev.effect_of(job)
        is_prompt = answer.kind in _PROMPT and job not in ev.cancels
        if is_prompt and answer.t <= healed and effect is not None:
            last = max(last, effect.t)
    return last - healed


def c17_resources(ev: Evidence) -> Iterator[Violation]:
    """Memory is bounded; files and threads do not grow; keys of Redis all end."""
    of: dict[int, list[Event]] = defaultdict(list)
    for sample in ev.by["sample"]:
        if sample.kind == "redis" and sample.facts["endless"]:
            yield Violation("C17", f"{sample.facts['endless']:.0f} keys without an end")
        elif sample.kind == "worker":
            of[sample.pids[0]].append(sample)
    for pid, samples in of.items():
        most = max(sample.facts["rss_mib"] for sample in samples)
        if most > RSS_MIB:
            yield Violation("C17", f"worker {pid} took {most:.0f} MiB")
        for what, growth in _GROWTH_MOST.items():
            steady = samples[_SETTLED_AFTER:] or samples[-1:]
            grown = steady[-1].facts[what] - steady[0].facts[what]
            if grown > growth:
                yield Violation("C17", f"worker {pid} has {grown:.0f} more {what}")


def c18_spool(ev: Evidence) -> Iterator[Violation]:
    """What the service kept while the log was away is in the log afterwards.

    C1 asks for its end; this asks for its record, which stays when the claim store has
    forgotten, and C10 for the order of its key.
    """
    if ev.scenario.spools and not ev.spooled:
        yield Violation("C18", "nothing was spooled: this run shows nothing of it")
    for job in ev.spooled:
        if job not in ev.records:
            kind = ev.accepted[job].kind
            yield Violation("C18", f"{kind} was spooled and never written", job)


def c20_metrics(ev: Evidence) -> Iterator[Violation]:
    """What workers counted is what happened, to the last one.

    A worker that is killed takes its counts with it, and one that stood still may count
    a run that others had: asked only where neither was. Ends are compared where nothing
    broke at all: what goes on without claims may end twice. An attempt whose deadline
    passes before the first line of its handler is counted and leaves no trace but that
    its job expired.
    """
    if ev.scenario.is_supervised or ev.workers_were_broken:
        return
    begun = ev.by["begin"]
    seen = {event.job for event in begun}
    unseen = sum(ev.state(j) == "expired" and j not in seen for j in ev.invoked)
    yield from _miscounted(ev, "shifter_inflight", "", 0)
    for name, count in (
        ("shifter_attempts_total", len(begun)),
        ("shifter_job_duration_seconds", len(begun)),
        ("shifter_job_wait_seconds", sum(event.attempt == 1 for event in begun)),
    ):
        yield from _miscounted(ev, name, "", count, unseen)
    if ev.faults:
        return
    letters = len(ev.by["letter"])
    states = Counter(ev.state(job) for job in ev.invoked)
    yield from _miscounted(ev, "shifter_dead_letters_total", "", letters)
    yield from _miscounted(ev, "shifter_jobs_total", "done", len(ev.applied))
    yield from _miscounted(ev, "shifter_jobs_total", "dead", letters)
    yield from _miscounted(ev, "shifter_jobs_total", "expired", states["expired"])
    # Who asked for a claim was granted it for each run, and for ends without one.
    ends = letters + states["expired"] + states["cancelled"]
    yield from _miscounted(ev, "shifter_claims_total", "granted", len(begun), ends)
    yield from _miscounted_retries(ev, states["expired"] + states["cancelled"])
    if not ev.asked:
        bounded = [j for j, asked in ev.invoked.items() if asked.deadline_ms]
        ended = sum(ev.state(job) in TERMINAL for job in bounded)
        yield from _miscounted(ev, "shifter_job_deadline_margin_seconds", "", ended)
        # Who leaves in the middle of a hop may leave two records of one job, and a
        # second one that was cancelled cannot be told from the first.
        cancelled = states["cancelled"]
        yield from _miscounted(ev, "shifter_jobs_total", "cancelled", cancelled)


def _miscounted_retries(ev: Evidence, unseen: int) -> Iterator[Violation]:
    """A charged retry begins the next attempt, unless the job ends before that."""
    again = {(e.job, e.attempt) for e in ev.by["begin"] if e.attempt > 1}
    reasons = ("failed", "retry_asked")
    said = sum(ev.counted["shifter_retries_total", reason] for reason in reasons)
    if not len(again) <= said <= len(again) + unseen:
        what = f"shifter_retries_total is {said}, and it was {len(again)}"
        yield Violation("C20", what)


def _miscounted(
    ev: Evidence, name: str, outcome: str, count: int, unseen: int = 0
) -> Iterator[Violation]:
    said = ev.counted[name, outcome]
    if not count <= said <= count + unseen:
        what = f"{name} {outcome}".strip()
        yield Violation("C20", f"{what} is {said}, and it was {count}")


def c22_answers(ev: Evidence) -> Iterator[Violation]:
    """Every question is answered, in time."""
    for job, asked in ev.invoked.items():
        answer = ev.answers.get(job)
        if answer is None:
            if not ev.was_broken(asked.pid, asked.t, asked.t + ACCEPT_S):
                yield Violation("C22", "was never answered", job)
        elif answer.t - asked.t > ACCEPT_S:
            yield Violation("C22", f"answered after {answer.t - asked.t:.1f} s", job)


def _without_zombies(ev: Evidence, runs: Sequence[Run]) -> list[Run]:
    """Runs in the order of their fences: a zombie speaks late.

    A run without a claim has none: its time stands in for it, as fences are made of it.
    """

    def order(run: Run) -> tuple[int, float]:
        start = run.start
        return start.fence or start.wall_ms * FENCES_PER_MS, start.t

    return sorted(runs, key=order)


def _is_cut(ev: Evidence, run: Run, until: float | None = None) -> bool:
    """Whether a run may have been ended before its mark, by what broke.

    One whose handler never spoke its last word was under way until its worker died.
    """
    if until is None:
        if run.finish is None and ev.broke_later(run.pid, run.start.t):
            return True
        until = run.last_t + _MARK_S
    return bool(ev.was_broken(run.pid, run.start.t, until))


def _any_cut(ev: Evidence, runs: Sequence[Run]) -> bool:
    return any(_is_cut(ev, run) for run in runs)


CHECKERS: Final[tuple[Checker, ...]] = (
    c1_lost,
    c2_two_ends,
    c3_once,
    c4_repeats,
    c5_phantoms,
    c6_integrity,
    c7_after_deadline,
    c8_before_due,
    c9_attempts,
    c10_order,
    c12_budget,
    c14_conservation,
    c15_frontier,
    c16_liveness,
    c17_resources,
    c18_spool,
    c20_metrics,
    c22_answers,
    c25_aside,
    c25_shares,
)


def check(ev: Evidence) -> list[Violation]:
    """All violations of a history."""
    return [violation for checker in CHECKERS for violation in checker(ev)]
