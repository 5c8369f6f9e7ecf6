"""``python -m tests.regress.fork_program CALL``: one public call, then a fork.

The child makes every call again, and says the name of each that worked; then it must
see what the fleet learns after the fork. The parent does the same when the child is
gone. With ``pool`` for CALL a `multiprocessing` pool of forked processes is used.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from shifter import Shifter
from shifter.errors import RejectedError
from shifter.fleet.shared_state import OverrideCell, by_hand_cell
from shifter.fleet.view import set_by_hand
from shifter.wiring import open_fleet

app = Shifter(os.environ.get("TEST_NAMESPACE", "forks"))
ledger = app.dependency("ledger")


@app.job
def plain(number: int) -> int:
    return number + 1


@app.job
async def awaiting(number: int) -> int:
    return number + 1


@app.job(uses=ledger)
def careful(number: int) -> int:
    return number + 1


def submit_sync() -> None:
    assert plain.submit_sync(1).value == 2  # type: ignore[union-attr]


def submit() -> None:
    assert asyncio.run(plain.submit(1)).value == 2  # type: ignore[union-attr]


def submit_coroutine() -> None:
    assert asyncio.run(awaiting.submit(1)).value == 2  # type: ignore[union-attr]


def submit_with_dependency() -> None:
    assert asyncio.run(careful.submit(1)).value == 2  # type: ignore[union-attr]


def defer_sync() -> None:
    assert type(plain.defer_sync(1)).__name__ == "Deferred"


def defer() -> None:
    assert type(asyncio.run(plain.defer(1))).__name__ == "Deferred"


def defer_many() -> None:
    answers = asyncio.run(plain.defer_many([(n,) for n in range(300)]))
    assert {type(answer).__name__ for answer in answers} == {"Deferred"}


def status() -> None:
    asyncio.run(app.status("0190a000-0000-7000-8000-000000000000"))


def cancel() -> None:
    answer = asyncio.run(app.cancel("0190a000-0000-7000-8000-000000000001"))
    assert answer.state == "cancelled"


def block() -> None:
    with ledger:
        pass


def block_async() -> None:
    async def enter() -> None:
        async with ledger:
            pass

    asyncio.run(enter())


def explain() -> None:
    plan = plain._plan
    _, findings = app.admission.explain(plan, can_run=True, has_fallback=False)
    assert findings


def report() -> None:
    app.admission.report()


def dead_letters() -> None:
    async def look() -> None:
        async with app.dead_letters("default") as letters:
            await letters.discard(reason="test", by="test")

    asyncio.run(look())


def opening() -> None:
    assert app.publisher.clock.epoch_ms()


CALLS: dict[str, Callable[[], None]] = {
    call.__name__: call
    for call in (
        submit_sync,
        submit,
        submit_coroutine,
        submit_with_dependency,
        defer_sync,
        defer,
        defer_many,
        status,
        cancel,
        block,
        block_async,
        explain,
        report,
        dead_letters,
        opening,
    )
}


def within(seconds: float, check: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it sees nothing"
        time.sleep(0.02)


def sees_lanes() -> None:
    lane = f"{app.namespace}.default.normal"

    def known() -> bool:
        lanes = app.admission.views.lanes
        return lanes is not None and lanes.facts(lane) is not None

    within(60, known)


def set_circuit(to: str | None) -> None:
    async def tell() -> None:
        store = open_fleet(app.settings)
        setting = None if to is None else OverrideCell(to, "nobody", "a test", 60_000)
        await set_by_hand(
            store, f"operator-{os.getpid()}", by_hand_cell("ledger"), setting
        )
        await store.close()

    asyncio.run(tell())


def is_refused() -> bool:
    try:
        block()
    except RejectedError:
        return True
    return False


def sees_circuits() -> None:
    assert not is_refused()
    set_circuit("open")
    within(60, is_refused)
    set_circuit(None)
    within(60, lambda: not is_refused())


def everything(who: str) -> None:
    """Make every call, in an order that begins elsewhere for each caller."""
    for name, call in CALLS.items():
        call()
        print(who, name, flush=True)
    for look in (sees_lanes, sees_circuits):
        look()
        print(who, look.__name__, flush=True)


def forked(who: str, *, again: bool) -> None:
    """Fork, and wait until the child has made every call."""
    pid = os.fork()
    if pid == 0:
        code = 1
        faulthandler.dump_traceback_later(15, exit=True)
        try:
            everything(who)
            # The thread of it would be missed by the next child.
            faulthandler.cancel_dump_traceback_later()
            if again:
                forked("grandchild", again=False)
            app.close()
            code = 0
        except BaseException as error:
            print(who, "failed", repr(error), file=sys.stderr, flush=True)
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    until = time.monotonic() + 60
    while True:
        ended, status_ = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert status_ == 0, f"{who} ended with {status_}"
            return
        if time.monotonic() > until:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            raise AssertionError(f"{who} hangs")
        time.sleep(0.01)


def listen_for_imports() -> None:
    """Make every call, and say what was imported by another thread than this one."""
    found = []

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        thread = threading.current_thread()
        if event == "import" and thread is not threading.main_thread():
            found.append(f"{arguments[0]} by {thread.name}")

    sys.addaudithook(heard)
    everything("parent")
    app.close()
    assert not found, found


def main(name: str) -> None:
    if name == "imports":
        listen_for_imports()
        return
    CALLS[name]()
    forked("child", again=name == "submit")
    everything("parent")
    assert app.close() == 0


if __name__ == "__main__":
    main(sys.argv[1])
