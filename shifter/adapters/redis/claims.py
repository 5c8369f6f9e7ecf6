"""The claim store in Redis: one script call for a batch, on a cluster one per hash tag.

The rules are `shifter.policy.delivery.claim`; the scripts mirror them.

On a cluster the claim of a user's idempotency key and the pointer from the job's id lie
in different slots: pointers are then left in a round trip of their own, before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from shifter.adapters.redis.claim_scripts import (
    LETTER_STATE,
    RENEWAL,
    ClaimScripts,
    claim_answers,
    claim_args,
    decode_claim,
    decode_identity,
    encode_claim,
    finish_args,
    job_field,
    raw,
    renew_args,
)
from shifter.adapters.redis.client import RedisClient
from shifter.adapters.redis.keys import ClaimKeys, from_field, to_field
from shifter.adapters.redis.scripts import Command, describe
from shifter.model.claim import (
    Cancelled,
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    Finished,
    Granted,
    JobState,
    JobStatus,
    Renewal,
    WaitingJobs,
)
from shifter.policy.delivery.claim_state import (
    FENCES_PER_MS,
    NO_EFFECT,
    RUNNING_GRACE_MS,
    Claim,
    done_job,
    status_found,
    status_of,
)
from shifter.ports import ClaimCalls, understood

_GOES_ON: Final = "-rqw"
"""The answer of ``point.lua`` for a job whose claim lies at another key."""
# Jobs with a key of the user's that run here now; far more than can.
_POINTERS: Final = 100_000
# Calls of one round trip: other callers are served between two of them.
_WAITING_CALLS: Final = 64


class _End(NamedTuple):
    """A keyed job's end, to be kept under its own id, for so many ms."""

    job_id: str
    claim: Claim
    keep_ms: int


class RedisClaimStore:
    """`shifter.ports.ClaimStore` in Redis. Owned by one event loop.

    Args:
        client: From `shifter.adapters.redis.client.open_redis`; `close` closes it.
        namespace: The fleet's.
        by_tag: Whether to send one script call per hash tag; ``None`` decides by the
            client. A server that is no cluster takes both.
    """

    def __init__(
        self, client: RedisClient, namespace: str, *, by_tag: bool | None = None
    ) -> None:
        keys = self._keys = ClaimKeys(namespace)
        self._key, self._note_key = keys.claim, keys.note
        self._scripts = ClaimScripts(client, by_tag=by_tag)
        self._runner, self._by_tag = self._scripts.runner, self._scripts.by_tag
        self._command = {name: s.command for name, s in self._scripts.scripts.items()}
        self._calls = ClaimCalls()
        # Which job each keyed claim that was granted here belongs to: its pointer
        # lives as long as the claim, refreshed in the same script where that may be.
        self._pointers: dict[str, str] = {}
        self._inlined: Mapping[str, str] = {} if self._by_tag else self._pointers

    @property
    def resets(self) -> int:
        """Values found that are no claim; they count as absent."""
        return self._scripts.resets

    @property
    def store_ms(self) -> int:
        """The store's clock at the last answer; 0 before the first."""
        return self._scripts.store_ms

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, lease_ms: int
    ) -> list[ClaimAnswer]:
        """Ask to run; answers in order."""
        with self._calls.named() as op, understood(self._runner.store, "claim"):
            return await self._claim(requests, f"{op} {to_field(owner)}", lease_ms)

    async def renew(
        self, held: Sequence[tuple[str, int]], *, lease_ms: int
    ) -> list[Renewal]:
        """Extend leases, given as (identity, fence), from the store's now."""
        identities = [identity for identity, _ in held]
        found: list[Renewal] = [RENEWAL["0"]] * len(held)

        def parts(group: Sequence[int]) -> tuple[list[bytes], list[object]]:
            args = renew_args([held[i] for i in group], lease_ms, self._inlined)
            return self._pointer_keys(identities[i] for i in group), args

        keep_ms = lease_ms + RUNNING_GRACE_MS
        keys = [self._key(identity) for identity in identities]
        further = self._point_apart((identity, keep_ms) for identity in identities)
        with understood(self._runner.store, "claim.renew"):
            replies = await self._scripts.send("renew", keys, parts, further)
            for group, _, words in replies:
                for i, digit in zip(group, words[0], strict=True):
                    found[i] = RENEWAL[digit]
        return found

    async def finish(self, updates: Sequence[ClaimUpdate]) -> list[bool]:
        """Write ends of turns; ``False`` where the fence was no longer the newest."""
        written = [True] * len(updates)
        stopped: dict[int, int] = {}

        def parts(group: Sequence[int]) -> tuple[list[bytes], list[object]]:
            chosen = [updates[i] for i in group]
            args = finish_args(chosen, self._inlined)
            return self._pointer_keys(update.identity for update in chosen), args

        keys = [self._key(update.identity) for update in updates]
        further = self._point_apart((u.identity, u.keep_ms) for u in updates)
        with understood(self._runner.store, "claim.finish"):
            for group, _, words in await self._scripts.send(
                "finish", keys, parts, further
            ):
                for word in words:
                    index, is_stopped, stop_keep_ms = word.partition("c")
                    if is_stopped:
                        stopped[group[int(index) - 1]] = int(stop_keep_ms)
                    else:
                        written[group[int(index) - 1]] = False
        if self._pointers:
            ends = self._ends(updates, written, stopped)
            await self._keep_ends(ends)
            for update in updates:
                self._pointers.pop(update.identity, None)
        return written

    def _ends(
        self,
        updates: Sequence[ClaimUpdate],
        written: Sequence[bool],
        stopped: Mapping[int, int],
    ) -> list[_End]:
        """Ends of keyed jobs without an effect; they are rare."""
        found: list[_End] = []
        for i, update in enumerate(updates):
            job_id = self._pointers.get(update.identity)
            state = JobState.CANCELLED if i in stopped else update.state
            if job_id is None or not written[i] or state not in NO_EFFECT:
                continue
            _, fence, _, turn, attempt, keep_ms = update
            ended = Claim(state, fence, turn, attempt, updated_ms=self.store_ms)
            found.append(_End(job_id, ended, stopped.get(i, keep_ms)))
        return found

    async def cancel(self, job_id: str, *, keep_ms: int) -> JobStatus:
        """Ask that a job not run (again); returns its state after the call.

        A job whose identity is not its id takes a second round trip, or a third.
        """
        with understood(self._runner.store, "claim.cancel"):
            return await self._cancelled(job_id, keep_ms)

    async def _cancelled(self, job_id: str, keep_ms: int) -> JobStatus:
        own = self._key(job_id)
        answer, value = await self._cancel(own, keep_ms, "own")
        identity = decode_identity(value) if answer == b"p" else None
        if answer == b"p" and identity is None:
            answer = b"o"
        elif identity is not None:
            key = self._key(identity)
            pointer = ("PEXPIRE", own, keep_ms)
            answer, value = await self._cancel(key, keep_ms, "job", job_id, pointer)
        if answer == b"o":
            answer, value = await self._cancel(own, keep_ms, "over")
            identity = None
        claim = decode_claim(value)
        assert claim is not None, "cancel.lua answers with a claim"  # noqa: S101  # ours
        if identity is not None and claim.state is JobState.CANCELLED:
            await self._keep_ends([_End(job_id, claim, keep_ms)])
        return status_of(job_id, claim)

    async def add_waiting(self, jobs: Sequence[WaitingJobs]) -> int:
        """Record that jobs wait, unless something is recorded.

        Where a server has a limit of memory and more than half of it is used, it
        leaves them out: claims need the rest.
        """
        commands = self._scripts.waiting(jobs, self._keys)
        left_out = 0
        with understood(self._runner.store, "claim.add_waiting"):
            for at in range(0, len(commands), _WAITING_CALLS):
                part = commands[at : at + _WAITING_CALLS]
                for reply in await self._runner.send_all("claim.wait", part):
                    _, (words,) = self._scripts.read(reply)
                    left_out += int(words)
        return left_out

    async def status(self, job_id: str) -> JobStatus | None:
        """The state of a job; ``None`` when nothing is recorded, or not any more.

        A job whose identity is not its id takes a second round trip.
        """
        with understood(self._runner.store, "claim.status"):
            kind, value = await self._find(job_id)
            identity = decode_identity(value) if kind == b"p" else None
            if identity is not None:
                kind, value = await self._find(identity)
            claim = decode_claim(value) if kind == b"r" else None
        alias = "" if identity is None else from_field(to_field(job_id))
        return status_found(job_id, claim, alias=alias)

    async def done_by(self, identity: str) -> str | None:
        """The id of the job that had the effect of an idempotency key."""
        with understood(self._runner.store, "claim.done_by"):
            kind, value = await self._find(identity)
            return done_job(decode_claim(value) if kind == b"r" else None)

    async def note(self, name: str, word: str, *, keep_ms: int) -> str:
        """Keep a word under a name, unless one is kept there; returns what is kept."""
        key = self._note_key(name)
        put, read = ("SET", key, word, "NX", "PX", keep_ms), ("GET", key)
        with understood(self._runner.store, "claim.note"):
            _, kept = await self._runner.send_all("claim.note", [put, read])
        return word if kept is None else str(kept, "ascii", "replace")

    async def ping(self) -> str:
        """One line that describes the store."""
        return await describe(self._runner)

    async def close(self) -> None:
        """Close the client."""
        await self._runner.close()

    async def _claim(
        self, requests: Sequence[ClaimRequest], who: str, lease_ms: int
    ) -> list[ClaimAnswer]:
        aliased = [i for i, r in enumerate(requests) if r.identity != r.job_id]
        answers: list[ClaimAnswer] = [Cancelled()] * len(requests)
        asked: Sequence[int] = range(len(requests))
        if aliased and self._by_tag:
            known = await self._point([requests[i] for i in aliased], lease_ms)
            for i, answer in known.items():
                answers[aliased[i]] = answer
            gone = {aliased[i] for i in known}
            asked = [i for i in asked if i not in gone]
        lost = self._calls.unanswered
        unanswered = f" {' '.join(lost)} " if lost else ""
        jobs = [] if self._by_tag else [self._key(requests[i].job_id) for i in aliased]

        def parts(group: Sequence[int]) -> tuple[list[bytes], list[object]]:
            chosen = [requests[asked[i]] for i in group]
            args = claim_args(chosen, point=not self._by_tag)
            return jobs, [len(chosen), lease_ms, who, unanswered, *args]

        keys = [self._key(requests[i].identity) for i in asked]
        for group, now_ms, words in await self._scripts.send("claim", keys, parts):
            granted = Granted(now_ms * FENCES_PER_MS, 0)
            for i, answer in zip(
                group, claim_answers(words, granted, len(group)), strict=True
            ):
                answers[asked[i]] = answer
        await self._answered([(requests[i], answers[i]) for i in aliased], lease_ms)
        return answers

    async def _answered(
        self, keyed: Iterable[tuple[ClaimRequest, ClaimAnswer]], lease_ms: int
    ) -> None:
        """Note which keyed jobs run here, and keep the ends of the cancelled ones."""
        ends: list[_End] = []
        for request, answer in keyed:
            if isinstance(answer, Granted):
                self._remember(request)
            elif isinstance(answer, Cancelled):
                _, job_id, turn, attempt = request
                state, now_ms = JobState.CANCELLED, self.store_ms
                ended = Claim(state, 0, turn, attempt, updated_ms=now_ms)
                ends.append(_End(job_id, ended, lease_ms + RUNNING_GRACE_MS))
        await self._keep_ends(ends)

    async def _point(
        self, requests: Sequence[ClaimRequest], lease_ms: int
    ) -> dict[int, ClaimAnswer]:
        """Leave pointers; the answers to jobs that ended under their own ids."""
        keep_ms = lease_ms + RUNNING_GRACE_MS
        replies = await self._scripts.send(
            "point",
            [self._key(request.job_id) for request in requests],
            lambda group: ([], [keep_ms, *(raw(requests[i].identity) for i in group)]),
        )
        return {
            i: Cancelled() if letter == "c" else Finished(LETTER_STATE[letter])
            for group, _, words in replies
            for i, letter in zip(group, words[0], strict=True)
            if letter not in _GOES_ON
        }

    async def _keep_ends(self, ends: Sequence[_End]) -> None:
        """Keep ends of keyed jobs under their own ids, in place of their pointers."""
        keys = [self._key(end.job_id) for end in ends]
        commands: list[Command] = []
        for group in self._scripts.groups(keys) if keys else ():
            args: list[object] = []
            for i in group:
                claim = ends[i].claim._replace(job_id="")
                args += (encode_claim(claim), ends[i].keep_ms)
            chosen = [keys[i] for i in group]
            commands.append(self._command["mark"](chosen, args))
        if commands:
            await self._runner.send_all("claim.mark", commands)

    async def _cancel(
        self, key: bytes, keep_ms: int, how: str, job_id: str = "", *also: Command
    ) -> tuple[bytes, bytes]:
        job = job_field(job_id) if job_id else ""
        command = self._command["cancel"]([key], (keep_ms, how, job))
        reply, *_ = await self._runner.send_all("claim.cancel", [command, *also])
        answer, value, resets = reply
        self._scripts.read(resets)
        return answer, value

    async def _find(self, name: str) -> tuple[bytes, bytes]:
        command = self._command["status"]([self._key(name)], ())
        kind, value, resets = await self._runner.send("claim.status", command)
        self._scripts.read(resets)
        return kind, value

    def _remember(self, request: ClaimRequest) -> None:
        if len(self._pointers) >= _POINTERS:
            del self._pointers[next(iter(self._pointers))]
        self._pointers[request.identity] = request.job_id

    def _pointer_keys(self, identities: Iterable[str]) -> list[bytes]:
        """Keys of pointers that a script refreshes together with the claims."""
        if not self._inlined:
            return []
        return [
            self._key(self._inlined[identity])
            for identity in identities
            if identity in self._inlined
        ]

    def _point_apart(self, kept: Iterable[tuple[str, int]]) -> list[Command]:
        """Leave pointers by separate calls, where one script may not meet all keys."""
        if not (self._by_tag and self._pointers):
            return []
        return [
            self._command["point"](
                [self._key(self._pointers[identity])], (keep_ms, raw(identity))
            )
            for identity, keep_ms in kept
            if identity in self._pointers
        ]
