"""``Idempotency-Key``: its scope, and the body that it was first used with.

A key counts for the user who sends it and for the route it is sent to, so no caller can
use up the key of another one. The digest of the first body is kept for as long as the
key; another body under the same key is an error of the caller, answered 422.

Source: draft-ietf-httpapi-idempotency-key-header, sections 2.2 and 2.6.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from typing import Final

import msgspec

from shifter.api.app import Shifter
from shifter.errors import ConfigError, StoreError
from shifter.model.job import JobSpec
from shifter.telemetry import Event, Log

NO_USER: Final = "no user"
UNCHECKED: Final = "unchecked"
OTHER_BODY: Final = "other body"
_ASK_S: Final = 1.0
_ADVICE: Final = {
    NO_USER: "give user=: until then, callers of a route share its keys",
    UNCHECKED: "the state store cannot be asked, and another body is not seen",
}


class Keys:
    """The keys of a middleware's job routes.

    Args:
        app: Keeps the digests of bodies.

    Attributes:
        counts: How often a key came from no known user, could not be checked, or was
            refused for another body.
    """

    def __init__(self, app: Shifter) -> None:
        self._app = app
        self.counts: Counter[str] = Counter()

    def scoped(self, key: str | None, user: str | None, route: str) -> str | None:
        """The key within the scope of its user and route; ``None`` without a key.

        Args:
            key: As its caller sent it.
            user: Who sent it; without one, all that are not known are one.
            route: Where to.
        """
        if key is None:
            return None
        if user is None:
            self._say(NO_USER)
        return f"http.{_digest([user, route, key])}"

    async def is_for(self, spec: JobSpec, key: str, body: bytes) -> bool:
        """Whether a key was used with no other body, as far as that can be known.

        Args:
            spec: Of the job.
            key: As its job has it.
            body: A JSON document.
        """
        word = _digest(msgspec.json.decode(body))
        name = f"{spec.name}:{key}"
        try:
            async with asyncio.timeout(_ASK_S):
                kept = await self._app.note(name, word, keep_ms=spec.dedup_ms)
        except (StoreError, ConfigError, TimeoutError):
            self._say(UNCHECKED)  # the claim decides "once", whatever this check finds
            return True
        if kept != word:
            self.counts[OTHER_BODY] += 1
        return kept == word

    def _say(self, what: str) -> None:
        self.counts[what] += 1
        if self.counts[what] == 1:
            advice = _ADVICE[what]
            Log().warning(Event.KEY_DOUBTED, header="idempotency-key", want=advice)


def _digest(value: object) -> str:
    """The digest of a JSON document, independent of the order of its fields."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
