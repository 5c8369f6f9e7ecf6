"""The one place that builds Redis keys.

``shifter:{<hash tag>}:<room>:<id>``. The hash tag, ``<namespace>:<0..15>``, spreads the
claims of a namespace over a cluster while a batch still meets few nodes. What users or
records name is bounded here: a long or unprintable id is replaced by its digest, so
that it can neither fill the store nor move a key to another hash slot.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from shifter.model.lane import check_name
from shifter.wire.untrusted import MAX_NAME, bounded, digest

TAGS: Final = 16
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~-]{1,128}")
_OF_IDS: Final = b"0123456789abcdef-\n"
"""What job ids consist of, and the line break between them."""
# Keys of what runs now are built at the claim and asked for again at the end.
_REMEMBERED: Final = 16_384


class ClaimKeys:
    """Keys of one namespace's claims.

    Attributes:
        claim: From an identity, or a job's id, to its key.
    """

    def __init__(self, namespace: str) -> None:
        name = check_name("namespace", namespace)
        self._prefixes = [
            f"shifter:{{{name}:{tag}}}:claim:".encode() for tag in range(TAGS)
        ]
        self.claim: Callable[[str], bytes] = lru_cache(_REMEMBERED)(self._claim)

    def grouped(self, identities: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
        """Keys in two parts: their beginnings, and for each the ends, one a line.

        Nothing of it is remembered: these identities may never be asked for.
        """
        found = "\n".join(identities).encode(errors="surrogatepass")
        if found.translate(None, _OF_IDS) or max(map(len, identities)) > MAX_NAME:
            found = "\n".join(map(bounded_id, identities)).encode()
        of_tag: list[list[bytes]] = [[] for _ in range(TAGS)]
        for end in found.split(b"\n"):
            of_tag[zlib.crc32(end) % TAGS].append(end)
        prefixes = [p for p, ends in zip(self._prefixes, of_tag, strict=True) if ends]
        return prefixes, [b"\n".join(ends) for ends in of_tag if ends]

    def note(self, name: str) -> bytes:
        """The key of a note; no claim's has it, since its id is printable."""
        return self._claim(name).replace(b":claim:", b":claim:\0note\0", 1)

    def _claim(self, identity: str) -> bytes:
        found = bounded_id(identity).encode()
        return self._prefixes[zlib.crc32(found) % TAGS] + found


def presence_keys(namespace: str) -> tuple[str, str]:
    """When each worker's report fades, and the reports."""
    tag = f"{check_name('namespace', namespace)}:0"
    return f"shifter:{{{tag}}}:presence:until", f"shifter:{{{tag}}}:presence:report"


_FLEET: Final = ("state", "cells", "voices", "evidence", "budgets", "rates", "places")


def fleet_keys(namespace: str) -> tuple[str, ...]:
    """What a fleet decides together, in the order its script takes them."""
    tag = f"{check_name('namespace', namespace)}:0"
    return tuple(f"shifter:{{{tag}}}:fleet:{part}" for part in _FLEET)


def fleet_channel(namespace: str) -> str:
    """Where changes of a fleet's cells are published."""
    return f"shifter:{{{check_name('namespace', namespace)}:0}}:fleet"


def hash_tag(key: bytes) -> bytes:
    """The part of a key that decides its hash slot."""
    return key[: key.index(b"}")]


def bounded_id(text: str) -> str:
    """``text`` if it may stand in a key, else its digest; no two texts become one.

    >>> bounded_id("0192f3c4-aaaa-7000-8000-000000000000")
    '0192f3c4-aaaa-7000-8000-000000000000'
    >>> bounded_id("{shop:0}")[:9]
    '#46b22cac'
    """
    # Braces in an id would be a hash tag of their own.
    return digest(text) if "{" in text or "}" in text else bounded(text)


def to_field(text: str) -> str:
    """``text`` as one field of a claim record: no separator, no blank, bounded.

    >>> to_field("host 1;42")
    'host%201%3B42'
    """
    if _PLAIN.fullmatch(text):  # the usual case, in a third of the time
        return text
    return quote(bounded_id(text), safe="#")


def from_field(field: str) -> str:
    """The text of a field."""
    return unquote(field)
