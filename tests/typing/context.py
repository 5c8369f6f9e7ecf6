"""Never run: a `Context` may stand at any place in a handler.

First, it keeps the type of every parameter; elsewhere the job takes any arguments,
which are checked when it is submitted, and keeps the type of its result. By keyword
only, mypy needs it to have a default. mypy and pyright must accept what stands here, and
reject what is marked.
"""

from __future__ import annotations

from typing import Any

from shifter import Context, Deferred, Degraded, Priority, Ran, Shed, Shifter

app = Shifter("typed")


@app.job
async def first(ctx: Context, order_id: int, email: str = "") -> str:
    return email


@app.job(queue="mail", priority=Priority.LOW)
async def second(order_id: int, ctx: Context, email: str = "") -> str:
    return email


@app.job
async def last(order_id: int, email: str, ctx: Context) -> str:
    return email


@app.job(queue="mail")
def sixth(a: int, b: str, c: bytes, d: bool, e: float, odd: Context) -> str:
    return b


@app.job
async def by_keyword(order_id: int, *, ctx: Context | None = None) -> str:
    return str(order_id)


@app.job
def without(order_id: int, email: str) -> str:
    return email


@app.job(isolate="process")
def with_any(order_id: int, body: dict[str, Any]) -> str:
    return str(body)


async def uses() -> None:
    await first.defer(order_id=7, email="ann@example.org")
    await second.defer(order_id=7, email="ann@example.org")
    await last.defer(order_id=7, email="ann@example.org")
    await last.options(delay="5m").defer(7, "ann@example.org")
    last.defer_sync(7, "ann@example.org")
    sixth.defer_sync(1, "", b"", True, 1.0)
    await by_keyword.defer(order_id=7)
    answer: Ran[str] | Deferred | Degraded[str] | Shed
    answer = await last.submit(order_id=7, email="ann@example.org")
    answer = await first.submit(7)
    answer = await sixth.submit(1, "", b"", True, 1.0)
    if isinstance(answer, Ran):
        answer.value.upper()
    await first.defer("7")  # type: ignore[arg-type]
    await first.defer(ordr_id=7)  # type: ignore[call-arg]
    await without.defer("7", "")  # type: ignore[arg-type]
    await without.defer(7)  # type: ignore[call-arg]
    await with_any.defer(7, [])  # type: ignore[arg-type]
