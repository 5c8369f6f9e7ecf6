"""The states of a circuit, a claim and a job, as the rules themselves answer.

The rules are functions, not tables: each is asked what it makes of each state and event,
and the answers are the rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from docs_build.diagram import Edge, svg, table
from shifter.model.claim import ClaimUpdate, JobState
from shifter.model.time import EpochMs, StoreMs
from shifter.policy.delivery import claim as claims, job_limits, retry
from shifter.policy.delivery.claim_state import Claim
from shifter.policy.delivery.error_rules import Ruling
from shifter.policy.protection.circuit import states
from shifter.policy.protection.circuit.evidence import CallOutcome
from shifter.policy.protection.circuit.policy import CircuitPolicy

_ENDS = [state for state in JobState if state.is_terminal]
_POLICY = CircuitPolicy(cooldown_ms=1_000, probes=1, probe_successes=2)
_HEAD = """\
# States

Three state machines decide what happens to a job and to what it calls. The tables and \
pictures are made by asking the rules (`make reference`), and a test compares them with \
the code. The numbers at the arrows are those of the rows.
"""

CIRCUIT_PLACES = {"closed": (80, 40), "open": (420, 40), "half-open": (250, 190)}
CLAIM_PLACES = {
    "absent": (80, 150),
    "running": (300, 150),
    "waiting": (300, 320),
    "done": (680, 40),
    "dead": (680, 110),
    "expired": (680, 180),
    "discarded": (680, 250),
    "cancelled": (680, 360),
}
JOB_PLACES = {
    "waiting": (80, 170),
    "running": (300, 170),
    "done": (540, 40),
    "dead": (540, 105),
    "expired": (540, 170),
    "discarded": (540, 235),
    "cancelled": (540, 300),
}


def page() -> str:
    """The page's text."""
    return f"""{_HEAD}
## A circuit

`shifter.policy.protection.circuit`: whether a dependency is called. Each change of the \
state begins a new generation; the result of a call that began in an older generation \
is dropped.

![States of a circuit](states-circuit.svg)

{table(circuit_edges())}

## A claim

`shifter.policy.delivery.claim`: who may run a job. `absent` means that the store keeps \
no claim.

![States of a claim](states-claim.svg)

{table(claim_edges())}

## A job

`shifter.policy.delivery.retry`: what follows an attempt. A job waits before its first \
attempt and between two attempts.

![States of a job](states-job.svg)

{table(job_edges())}
"""


def pictures() -> dict[str, str]:
    """File names and SVG texts."""
    return {
        "states-circuit.svg": svg(
            "States of a circuit", CIRCUIT_PLACES, circuit_edges()
        ),
        "states-claim.svg": svg("States of a claim", CLAIM_PLACES, claim_edges()),
        "states-job.svg": svg("States of a job", JOB_PLACES, job_edges()),
    }


def circuit_edges() -> list[Edge]:
    """What `admit`, `settle` and `trip` make of each state."""
    return list(_circuit_edges())


def _circuit_edges() -> Iterator[Edge]:
    closed = states.Closed()
    opened = states.trip(_POLICY, closed, now_ms=0, u=0.0)
    assert isinstance(opened, states.Open)
    over_ms = opened.until_ms
    half, permit = states.admit(_POLICY, opened, now_ms=over_ms)
    assert isinstance(permit, states.Permit)
    calls = (
        (closed, "a call asks", 0),
        (opened, "a call asks before the cooldown is over", over_ms - 1),
        (opened, "a call asks after the cooldown", over_ms),
        (half, "a call asks while the probe runs", over_ms),
        (half, "a call asks after the probe's lease", over_ms + _POLICY.probe_lease_ms),
    )
    for state, event, now_ms in calls:
        after, answer = states.admit(_POLICY, state, now_ms=now_ms)
        yield Edge(_circuit(state), event, _circuit(after), _permit(answer))
    evidence = "the evidence is against the dependency"
    for state in (closed, opened, half):
        after = states.trip(_POLICY, state, now_ms=0, u=0.0)
        yield Edge(_circuit(state), evidence, _circuit(after))
    for outcome in CallOutcome:
        after = states.settle(_POLICY, half, permit, outcome, now_ms=over_ms, u=0.0)
        event = f"a probe ends: {outcome.value}"
        yield Edge("half-open", event, _circuit(after))
        if outcome is CallOutcome.SUCCESS:
            again, second = states.admit(_POLICY, after, now_ms=over_ms)
            assert isinstance(second, states.Permit)
            after = states.settle(
                _POLICY, again, second, outcome, now_ms=over_ms, u=0.0
            )
            event = "the last of `probe_successes` probes succeeds"
            yield Edge("half-open", event, _circuit(after))


def _circuit(state: states.CircuitState) -> str:
    if isinstance(state, states.HalfOpen):
        return "half-open"
    return type(state).__name__.lower()


def _permit(answer: object) -> str:
    if not isinstance(answer, states.Permit):
        return "refused"
    return "permitted, as a probe" if answer.probe else "permitted"


def claim_edges() -> list[Edge]:
    """What the four decisions about a claim make of each state."""
    return list(_claim_edges())


def _claim_edges() -> Iterator[Edge]:
    now = StoreMs(10_000)
    ask = claims.ClaimAsk(turn=2, attempt=1, owner="worker", lease_ms=1_000)
    running = Claim(
        JobState.RUNNING, 7, 2, 1, lease_end_ms=now + 500, updated_ms=now, owner="w"
    )
    waiting = Claim(JobState.WAITING, 7, 2, 1, updated_ms=now)
    over = running._replace(lease_end_ms=now)
    asked = over._replace(cancel_keep_ms=60_000)
    claims_ = (
        (None, "a worker asks", ask),
        (waiting, "a worker asks", ask),
        (waiting, "a worker asks for an older turn", ask._replace(turn=1)),
        (running, "a worker asks while the lease holds", ask),
        (over, "a worker asks after the lease", ask),
        (asked, "a worker asks after the lease, and a cancel was asked for", ask),
    )
    for state, event, question in claims_:
        given, kept = claims.decide_claim(state, question, now=now)
        yield _claim_edge(state, event, kept, type(given).__name__)
    for end in _ENDS:
        ended = Claim(end, 7, 2, 1, updated_ms=now)
        given, kept = claims.decide_claim(ended, ask, now=now)
        yield _claim_edge(ended, "a worker asks", kept, type(given).__name__)
        keyed = ended._replace(job_id="first")
        question = ask._replace(job_id="second")
        given, kept = claims.decide_claim(keyed, question, now=now)
        event = "a worker asks for another job of the idempotency key"
        yield _claim_edge(ended, event, kept, type(given).__name__)
    for state, event in (
        (running, "the worker renews"),
        (over, "the worker renews late"),
    ):
        renewal, kept = claims.decide_renew(state, fence=7, lease_ms=1_000, now=now)
        yield _claim_edge(state, event, kept, "held" if renewal.held else "lost")
    for end in (JobState.WAITING, *_ENDS):
        update = ClaimUpdate("id", 7, end, 3, 2, 60_000)
        took, kept = claims.decide_finish(running, update, now=now)
        event = f"the worker writes `{end.value}`"
        yield _claim_edge(running, event, kept, "written" if took else "refused")
    update = ClaimUpdate("id", 6, JobState.DONE, 3, 2, 60_000)
    took, kept = claims.decide_finish(running, update, now=now)
    event = "a worker with an older fence writes its end"
    yield _claim_edge(running, event, kept, "written" if took else "refused")
    for state in (None, waiting, running):
        _, kept = claims.decide_cancel(state, job_id="", keep_ms=60_000, now=now)
        event = "a cancel is requested"
        answer = "the next renewal reports it to the worker" if state is running else ""
        yield _claim_edge(state, event, kept, answer)


def _claim_edge(
    before: Claim | None, event: str, kept: claims.ClaimWrite | None, answer: str
) -> Edge:
    after = before if kept is None else kept.claim
    return Edge(_claim(before), event, _claim(after), answer)


def _claim(claim: Claim | None) -> str:
    return "absent" if claim is None else claim.state.value


def job_edges() -> list[Edge]:
    """What `after_attempt` and `lost` make of each outcome of an attempt."""
    return [Edge("waiting", "a worker's claim is granted", "running"), *_job_edges()]


def _job_edges() -> Iterator[Edge]:
    policy, now = retry.RetryPolicy(max_attempts=4), EpochMs(1_000)
    outcomes: list[tuple[str, retry.Outcome, int, int | None]] = [
        ("the handler returns", retry.Succeeded(), 1, None),
        ("the handler fails, and attempts are left", retry.Failed("E"), 1, None),
        ("the handler fails in its last attempt", retry.Failed("E"), 4, None),
        (
            "the handler fails, and the job's options do not retry such a failure",
            retry.Failed("E", Ruling(gives_up=True)),
            1,
            None,
        ),
        ("the next attempt would start after the deadline", retry.Failed("E"), 1, now),
        (
            "the handler raises `Retry`, and attempts are left",
            retry.RetryAsked(0),
            1,
            None,
        ),
        (
            "the handler raises `Retry` in its last attempt",
            retry.RetryAsked(0),
            4,
            None,
        ),
        ("the handler raises `Throttled`", retry.ThrottledOutcome(0), 4, None),
        ("the handler raises `Discard`", retry.Discarded(""), 1, None),
        ("the handler raises `DeadLetter`", retry.DeadLettered(""), 1, None),
        ("the deadline passes", retry.Expired(), 1, None),
        ("the job is cancelled", retry.WasCancelled(), 1, None),
        ("the worker stops and hands the attempt back", retry.Interrupted(), 4, None),
    ]
    for event, outcome, attempt, deadline_ms in outcomes:
        answer = retry.after_attempt(
            policy, outcome, attempt=attempt, now=now, deadline_ms=deadline_ms, u=0.5
        )
        yield _job_edge(event, answer)
    for losses in (1, job_limits.WORKER_LOSSES):
        yield _job_edge(
            f"the worker is lost, for the {losses}. time", job_limits.lost(losses)
        )


def _job_edge(event: str, answer: retry.RetryAnswer | None) -> Edge:
    if answer is None:
        return Edge("running", event, "waiting", "the same attempt is run again")
    if isinstance(answer, retry.TryAgain):
        charged = "charged as an attempt" if answer.charged else "not charged"
        return Edge("running", event, "waiting", charged)
    reason = f"`{answer.reason.value}`" if answer.reason else ""
    return Edge("running", event, answer.state.value, reason)
