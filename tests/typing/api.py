"""Never run: mypy must accept what stands here, and reject what is marked.

A marked line whose error vanished is reported as an unused ignore.
"""

from __future__ import annotations

from typing import assert_type

from shifter import (
    Context,
    Deferred,
    Degraded,
    OutcomeUnknownError,
    Priority,
    Ran,
    Shed,
    Shifter,
)
from shifter.testing import Call, DrainReport, Letter, TestApp

app = Shifter("typed")


@app.job
async def bare(number: int) -> str:
    return str(number)


@app.job(queue="mail", priority=Priority.LOW, timeout="30s", deadline="6h", attempts=5)
async def with_context(ctx: Context, order_id: int, email: str = "") -> None:
    ctx.checkpoint()


@app.job(isolate="process")
def plain(number: int) -> int:
    return number


async def uses() -> None:
    assert_type(await bare(1), str)
    assert_type(plain(2), int)
    answer = await bare.defer(1)
    assert_type(answer, Deferred | Shed)
    assert_type(
        await bare.defer_many([(1,), {"number": 2}]),
        list[Deferred | Shed | OutcomeUnknownError],
    )
    assert_type(with_context.defer_sync(7, email="a@x.org"), Deferred | Shed)
    await with_context.options(priority=Priority.HIGH, delay="5m", key="k").defer(7)
    submitted = await bare.submit(1)
    assert_type(submitted, Ran[str] | Deferred | Degraded[str] | Shed)
    assert_type(await plain.submit(1), Ran[int] | Deferred | Degraded[int] | Shed)
    if isinstance(submitted, Ran):
        assert_type(submitted.value, str)
    await bare.submit("1")  # type: ignore[call-overload]
    await bare.defer("1")  # type: ignore[arg-type]
    await bare.defer()  # type: ignore[call-arg]
    await with_context.options(delai="5m").defer(7)  # type: ignore[call-arg]


async def tests() -> None:
    async with TestApp(app, concurrency=2) as test:
        test.fail_with(bare, TimeoutError, times=2)
        test.fail_with(with_context, OSError("down"), times=None)
        assert_type(await test.drain(advance="2h"), DrainReport)
        assert_type(test.dead_letters("mail"), list[Letter])
        assert_type(plain.calls, list[Call])
        test.fail_with("bare", OSError())  # type: ignore[arg-type]


@app.job(qeue="mail")  # type: ignore[call-overload, untyped-decorator]
async def misspelt(number: int) -> None: ...
