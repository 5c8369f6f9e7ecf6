"""How a claim is written in Redis; the same as the header of ``lua/record.lua``."""

from __future__ import annotations

import re
from typing import Final

from shifter.adapters.redis.keys import from_field, to_field
from shifter.model.claim import JobState
from shifter.model.fleet import read_whole
from shifter.policy.delivery.claim_state import (
    Claim,
    is_sound,
)

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
_MAX_VALUE: Final = 4_096
_RECORD: Final = re.compile(
    rb"1([rqwdxeci])" + rb";".join([rb"([0-9]+)"] * 7) + rb";([^;]*);(.*)\Z", re.DOTALL
)


def decode_claim(value: bytes | None) -> Claim | None:
    """The claim in a stored value; ``None`` for whatever else lies there."""
    match = None
    if value is not None and len(value) <= _MAX_VALUE:
        match = _RECORD.match(value)
    if match is None:
        return None
    letter, *texts, who, job = match.groups()
    numbers = [read_whole(digits.decode()) for digits in texts]
    whole = [number for number in numbers if number is not None]
    if len(whole) < len(numbers):
        return None
    fence, turn, attempt, losses, lease_end, updated, cancel_keep = whole
    is_asked = letter.decode() == _CANCEL_ASKED
    op, _, owner = who.decode(errors="replace").partition(" ")
    claim = Claim(
        LETTER_STATE.get(letter.decode(), JobState.RUNNING),
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
    return claim if is_asked == (cancel_keep > 0) and is_sound(claim) else None


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


def decode_identity(raw: bytes) -> str | None:
    """The identity that a pointer names; ``None`` for bytes that are no text."""
    try:
        return raw.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return None
