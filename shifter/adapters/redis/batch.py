"""What the claim scripts take and give for a batch: built and read as few words.

Most of a batch is alike: first turns of plain jobs that end as done. What they share is
said once, and only the others are listed by their index, so that a job costs one key
and at most one argument, and a batch that is granted whole costs one line of reply.
Indexes count from 1, as in the scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Final

from shifter.adapters.redis.record import LETTER_STATE, STATE_LETTER, job_field
from shifter.model.claim import (
    Busy,
    Cancelled,
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    Finished,
    Granted,
    HandedOver,
    Renewal,
)

_ANSWER: Final[dict[str, Callable[[int, int], ClaimAnswer]]] = {
    "1": Granted,
    "2": lambda letter, _: Finished(LETTER_STATE[chr(letter)]),
    "3": lambda turn, _: HandedOver(turn),
    "4": lambda left_ms, _: Busy(left_ms),
    "5": lambda _, __: Cancelled(),
}
NOT_HELD: Final = Renewal(held=False, cancel_requested=False)
_RENEWAL: Final = {
    "0": NOT_HELD,
    "1": Renewal(held=True, cancel_requested=False),
    "2": Renewal(held=True, cancel_requested=True),
}


def claim_args(requests: Sequence[ClaimRequest], *, point: bool) -> list[object]:
    """Turns, attempts and jobs of a batch, >= 1 request, for ``claim.lua``.

    Args:
        requests: In the order of their keys.
        point: Whether the script also leaves the pointers of those whose identity is
            not their job's id; their job keys must then follow, in the same order.
    """
    _, _, usual_turn, usual_attempt = requests[0]
    args: list[object] = [f"{usual_turn};{usual_attempt}"]
    for index, (identity, job_id, turn, attempt) in enumerate(requests, 1):
        has_alias = identity != job_id
        if has_alias or turn != usual_turn or attempt != usual_attempt:
            job = job_field(job_id) if has_alias else ""
            target = identity if has_alias and point else ""
            args += (index, f"{turn};{attempt}", job, raw(target))
    return args


def claim_answers(words: Sequence[str], granted: Granted, n: int) -> list[ClaimAnswer]:
    """The answers of ``claim.lua``: a grant for all that the reply does not list."""
    answers: list[ClaimAnswer] = [granted] * n
    for at in range(0, len(words), 4):
        index, code, a, b = words[at : at + 4]
        answers[int(index) - 1] = _ANSWER[code](int(a), int(b))
    return answers


def finish_args(
    updates: Sequence[ClaimUpdate], pointed: Container[str]
) -> list[object]:
    """Fences, turns, states and keep times of a batch, >= 1, for ``finish.lua``.

    Args:
        updates: In the order of their keys.
        pointed: Identities whose job keys follow, in the same order.
    """
    _, _, usual_state, _, _, usual_keep_ms = updates[0]
    args: list[object] = [len(updates)]
    args += [
        b"%d;%d;%d" % (fence, turn, attempt)
        for _, fence, _, turn, attempt, _ in updates
    ]
    args += (STATE_LETTER[usual_state], usual_keep_ms)
    for index, (identity, _, state, _, _, keep_ms) in enumerate(updates, 1):
        is_pointed = bool(pointed) and identity in pointed
        if is_pointed or state is not usual_state or keep_ms != usual_keep_ms:
            target = identity if is_pointed else ""
            args += (index, STATE_LETTER[state], keep_ms, raw(target))
    return args


def renew_args(
    held: Sequence[tuple[str, int]], lease_ms: int, pointed: Container[str]
) -> list[object]:
    """Fences of a batch for ``renew.lua``; ``pointed`` as for `finish_args`."""
    args: list[object] = [len(held), lease_ms, *(fence for _, fence in held)]
    for index, (identity, _) in enumerate(held, 1):
        if identity in pointed:
            args += (index, raw(identity))
    return args


def renewals(words: Sequence[str]) -> list[Renewal]:
    """The answers of ``renew.lua``."""
    return [_RENEWAL[digit] for digit in words[0]]


def raw(text: str) -> bytes:
    """Text as the store keeps it; any text, also with lone surrogates."""
    return text.encode(errors="surrogatepass")
