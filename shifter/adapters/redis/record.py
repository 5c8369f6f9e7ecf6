"""How a claim is written in Redis; the same as the header of ``lua/record.lua``."""

from __future__ import annotations

import re
from typing import Final

from shifter.adapters.redis.keys import from_field, to_field
from shifter.model.state import JobState
from shifter.policy.claim import Claim

STATE_LETTER: Final = {
    JobState.RUNNING: "r",
    JobState.WAITING: "w",
    JobState.DONE: "d",
    JobState.DEAD: "x",
    JobState.EXPIRED: "e",
    JobState.CANCELLED: "c",
    JobState.DISCARDED: "i",
}
LETTER_STATE: Final = {letter: state for state, letter in STATE_LETTER.items()}

_CANCEL_ASKED: Final = "q"
_POINTER: Final = b"1p"
_LIMIT: Final = 2**53 - 1  # Lua counts in doubles
_RECORD: Final = re.compile(
    rb"1([rqwdxeci])" + rb";".join([rb"([0-9]+)"] * 7) + rb";([^;]*);(.*)\Z", re.DOTALL
)


def decode_claim(value: bytes | None) -> Claim | None:
    """The claim in a stored value; ``None`` for whatever else lies there."""
    match = _RECORD.match(value or b"")
    if match is None:
        return None
    letter, *whole, who, job = match.groups()
    if any(len(digits) > len(str(_LIMIT)) for digits in whole):
        return None
    fence, turn, attempt, losses, lease_end, updated, cancel_keep = map(int, whole)
    if max(fence, turn, attempt, losses, lease_end, updated, cancel_keep) >= _LIMIT:
        return None
    state = LETTER_STATE.get(letter.decode(), JobState.RUNNING)
    op, _, owner = who.decode(errors="replace").partition(" ")
    return Claim(
        state,
        fence,
        turn,
        attempt,
        losses,
        lease_end_ms=lease_end,
        updated_ms=updated,
        cancel_keep_ms=cancel_keep,
        op=op,
        owner=from_field(owner),
        job_id=from_field(job.decode(errors="replace").removesuffix("!")),
    )


def encode_claim(claim: Claim) -> bytes:
    """The value the scripts would write."""
    letter = _CANCEL_ASKED if claim.cancel_keep_ms else STATE_LETTER[claim.state]
    whole = (
        claim.fence,
        claim.turn,
        claim.attempt,
        claim.losses,
        claim.lease_end_ms,
        claim.updated_ms,
        claim.cancel_keep_ms,
    )
    is_running = claim.state is JobState.RUNNING
    who = f"{claim.op} {to_field(claim.owner)}" if is_running else ""
    numbers = ";".join(map(str, whole))
    job = job_field(claim.job_id) if claim.job_id else ""
    return f"1{letter}{numbers};{who};{job}".encode()


def job_field(job_id: str) -> str:
    """The last field of a keyed job's claim; its mark shows that nothing is cut off."""
    return f"{to_field(job_id)}!"


def decode_pointer(value: bytes | None) -> str | None:
    """The identity a job id's value points to; ``None`` if it is no pointer."""
    if value is None or not value.startswith(_POINTER):
        return None
    return value.removeprefix(_POINTER).decode(errors="surrogatepass")
