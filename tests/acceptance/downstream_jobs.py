"""An app whose job calls `tests.torture.faults.downstream`, as a careful user would."""

from __future__ import annotations

import asyncio
import os
import ssl

from shifter import Context, Shifter, Throttled
from shifter.policy.protection.budget import BudgetPolicy
from shifter.protection import CircuitPolicy, EvidencePolicy
from tests.acceptance.jobs import effect

MOST_BYTES = 100_000

app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))
partner = app.dependency(
    "partner",
    circuit=CircuitPolicy(cooldown_ms=500, max_cooldown_ms=1_000, ramp_ms=500),
    evidence=EvidencePolicy(consecutive_failures=3, min_calls=5),
    budget=BudgetPolicy(floor_per_s=2),
)


async def ask() -> int:
    """The status of an answer that is no longer than it may be."""
    port = int(os.environ["DOWNSTREAM"])
    trusted = os.environ.get("DOWNSTREAM_CA")
    context = None if trusted is None else ssl.create_default_context(cafile=trusted)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: partner\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = 0
        while block := await reader.read(8_192):
            body += len(block)
            if body > MOST_BYTES:
                raise OSError("the answer is too long")
    finally:
        writer.close()
    status = int(head.split()[1])
    if status == 429:
        raise Throttled(f"{head.partition('Retry-After: ')[2].split()[0]}s")
    return status


@app.job(uses=partner, timeout="500ms", attempts=2, backoff="100ms")
async def call(number: int, ctx: Context) -> None:
    if await ask() != 200:
        raise OSError("the partner failed")
    effect("called", number, ctx.attempt)
