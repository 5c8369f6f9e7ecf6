"""Damages records: golden ones that were flipped, cut and seasoned find what noise does not."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path

from shifter.wire.headers import Headers

SPICE = [
    *(b"null", b"NaN", b"1e999", b"-1", b"9" * 400, b"[" * 70, b'{"a":' * 70, b"true"),
    *(b'"', b"\\", b"\\u0000", b"\\ud800", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\n"),
    *(b'"v":2,', b'"attempt":0,', b'"due_ms":253402300799999,', b'"type":"",'),
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc1", b"\x91" * 70),
]


def flip(raw: bytearray, rng: random.Random) -> None:
    if raw:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def cut(raw: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(raw) + 1)
    del raw[start : start + rng.randrange(1, 20)]


def double(raw: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(raw) + 1)
    part = raw[start : start + rng.randrange(1, 60)]
    raw[start:start] = part


def season(raw: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(raw) + 1)
    raw[start:start] = rng.choice(SPICE)


def truncate(raw: bytearray, rng: random.Random) -> None:
    del raw[rng.randrange(len(raw) + 1) :]


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [
    flip, flip, cut, double, season, season, truncate
]  # fmt: skip


def damaged(value: bytes | None, rng: random.Random) -> bytes | None:
    raw = bytearray(rng.randbytes(9) if value is None else value)
    for _ in range(rng.randrange(3)):
        rng.choice(DAMAGES)(raw, rng)
    return None if rng.random() < 0.01 else bytes(raw)


def golden() -> list[tuple[Headers, bytes | None]]:
    folder = Path(__file__).parents[2] / "schemas" / "golden"
    found = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_bytes())
        headers = [(one["name"], _content(one["value"])) for one in record["headers"]]
        found.append((headers, _content(record["value"])))
    return found


def _content(written: dict[str, str] | None) -> bytes | None:
    if written is None:
        return None
    text = written.get("text")
    return base64.b64decode(written["base64"]) if text is None else text.encode()
