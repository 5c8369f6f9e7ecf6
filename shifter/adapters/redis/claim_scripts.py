"""What the claim scripts store, take and give, and the calls that send them in batches.

A stored claim has the form that the header of ``lua/record.lua`` describes.

Most of a batch are alike: first turns of plain jobs that end as done. What they share
stands once in the arguments, and only the others are listed by their index. A job then
costs one key and at most one argument, and a batch that is granted whole costs one line
of reply. Indexes count from 1, as in the scripts.

A batch is one call of a script, or on a cluster one call per hash tag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Final

from shifter.adapters.redis.client import RedisClient
from shifter.adapters.redis.keys import ClaimKeys, from_field, hash_tag, to_field
from shifter.adapters.redis.scripts import Command, ScriptRunner, read_script
from shifter.model.claim import (
    Busy,
    Cancelled,
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    Finished,
    Granted,
    HandedOver,
    JobState,
    Renewal,
    WaitingJobs,
    merged,
)
from shifter.model.fleet import read_whole
from shifter.policy.delivery.claim_state import Claim, is_sound

_SCRIPTS: Final = (
    ("claim", "decide"),
    ("point",),
    ("renew",),
    ("finish", "ended"),
    ("cancel",),
    ("status",),
    ("mark",),
    ("wait",),
)

_WAITING_BATCH: Final = 1_000
"""A script call for so many keeps the server busy for 1 to 2 ms."""

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
# The scripts write some hundred bytes; a longer value is another program's.
_MAX_VALUE: Final = 4_096
_RECORD: Final = re.compile(
    rb"1([rqwdxeci])" + rb";".join([rb"([0-9]+)"] * 7) + rb";([^;]*);(.*)\Z", re.DOTALL
)


_ANSWER: Final[dict[str, Callable[[int, int], ClaimAnswer]]] = {
    "1": Granted,
    "2": lambda letter, _: Finished(LETTER_STATE[chr(letter)]),
    "3": lambda turn, _: HandedOver(turn),
    "4": lambda left_ms, _: Busy(left_ms),
    "5": lambda _, __: Cancelled(),
}
RENEWAL: Final = {
    "0": Renewal(held=False, cancel_requested=False),
    "1": Renewal(held=True, cancel_requested=False),
    "2": Renewal(held=True, cancel_requested=True),
}
"""The answers of ``renew.lua``, which gives one digit for each claim."""


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
    """The answers of ``claim.lua``: a grant for all that the reply does not list.

    Args:
        words: The reply's list: index from 1, code, and two numbers for each exception.
        granted: The answer to requests that are not listed.
        n: Requests of the batch.
    """
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
    """Fences of a batch for ``renew.lua``.

    Args:
        held: Identity and fence of each lease, in the order of their keys.
        lease_ms: How long the leases last from now on.
        pointed: Identities whose job keys follow, in the same order.
    """
    args: list[object] = [len(held), lease_ms, *(fence for _, fence in held)]
    for index, (identity, _) in enumerate(held, 1):
        if identity in pointed:
            args += (index, raw(identity))
    return args


def raw(text: str) -> bytes:
    """Text as the store keeps it; any text, also with lone surrogates."""
    return text.encode(errors="surrogatepass")


class ClaimScripts:
    """The scripts of one claim store. Owned by one event loop.

    Args:
        client: From `shifter.adapters.redis.client.open_redis`.
        by_tag: Whether to send one call per hash tag; ``None`` decides by the client.

    Attributes:
        runner: Sends single commands.
        scripts: By name.
        by_tag: As decided.
        resets: Values found that are no claim.
        store_ms: The store's clock at the last answer; 0 before the first.
    """

    def __init__(self, client: RedisClient, *, by_tag: bool | None) -> None:
        self.scripts = {
            name: read_script("number", "record", "access", *before, name)
            for name, *before in _SCRIPTS
        }
        self.runner = ScriptRunner(client, self.scripts.values())
        self.by_tag = self.runner.is_cluster if by_tag is None else by_tag
        self.resets = self.store_ms = 0

    async def send(
        self,
        name: str,
        keys: Sequence[bytes],
        parts: Callable[[Sequence[int]], tuple[list[bytes], list[object]]],
        further: Sequence[Command] = (),
    ) -> list[tuple[Sequence[int], int, list[str]]]:
        """Call a script for all keys in one round trip.

        Args:
            name: The script's.
            keys: One for each member of the batch.
            parts: From positions in ``keys`` to further keys and the arguments.
            further: Sent along; their answers are ignored.

        Returns:
            Positions in ``keys``, when the script ran, and its answer for them.
        """
        if not keys:
            return []
        groups = self.groups(keys)
        commands: list[Command] = []
        for group in groups:
            more, args = parts(group)
            chosen = [*(keys[i] for i in group), *more]
            commands.append(self.scripts[name].command(chosen, args))
        commands += further
        replies = await self.runner.send_all(f"claim.{name}", commands)
        return [
            (group, *self.read(reply))
            for group, reply in zip(groups, replies, strict=False)
        ]

    def waiting(self, jobs: Iterable[WaitingJobs], keys: ClaimKeys) -> list[Command]:
        """The calls that record jobs as waiting."""
        commands: list[Command] = []
        for job_ids, keep_ms, identity in merged(jobs):
            value = b"" if identity is None else b"1p" + raw(identity)
            for at in range(0, len(job_ids), _WAITING_BATCH):
                prefixes, texts = keys.grouped(job_ids[at : at + _WAITING_BATCH])
                for group in self.groups(prefixes):
                    args = [keep_ms, value, *(texts[i] for i in group)]
                    chosen = [prefixes[i] for i in group]
                    commands.append(self.scripts["wait"].command(chosen, args))
        return commands

    def groups(self, keys: Sequence[bytes]) -> list[Sequence[int]]:
        """Positions in ``keys`` of what one call may meet together."""
        if not self.by_tag:
            return [range(len(keys))]
        groups: dict[bytes, list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(hash_tag(key), []).append(i)
        return list(groups.values())

    def read(self, reply: bytes) -> tuple[int, list[str]]:
        """When a script ran, and its further words."""
        now, resets, *words = reply.decode().split(" ")
        self.store_ms = int(now)
        self.resets += int(resets)
        return self.store_ms, words
