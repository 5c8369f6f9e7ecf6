"""``shifter work``: run workers until a signal, or until nothing is left.

The first worker process is begun before anything else is imported or looked at: its
imports take as long as all that (`shifter.supervise.first_child`).
"""

from __future__ import annotations

from shifter.cli.session import InSession
from shifter.model.lane import Priority
from shifter.supervise.first_child import FirstChild


def work(  # noqa: PLR0913  # one parameter an option
    target: str,
    /,
    *,
    processes: int | None = None,
    concurrency: int | None = None,
    queue: list[str] | None = None,
    priority: list[Priority] | None = None,
    burst: bool = False,
    wait: str = "0s",
    health: str | None = None,
    watchdog: str = "60s",
    session: InSession,
) -> int:
    """Run workers for an app.

    The command supervises worker processes and replaces those that end. A first SIGTERM
    or Ctrl-C lets running jobs end; a later one hands them back at once.

    Example: shifter work shop.jobs:app --processes 4 --health 127.0.0.1:9000

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        processes: Number of worker processes.
        concurrency: Jobs running at once in each process.
        queue: Serve only this queue; may be repeated.
        priority: Serve only this priority; may be repeated.
        burst: End when nothing that is served is waiting, delayed or running.
        wait: How long to wait for log and state store at the start, such as 60s.
        health: HOST:PORT that answers /startupz, /livez, /readyz and /metrics for all
            processes.
        watchdog: How long a process may make no progress before it is replaced; 0s for
            ever.
        session: This command line.
    """
    # What a child reads from the environment is there before the child.
    session.export()
    with FirstChild(target) as first:
        from shifter.cli.work_run import Given, run_workers  # noqa: PLC0415  # see above

        given = Given(
            target=target,
            processes=processes,
            concurrency=concurrency,
            queues=tuple(queue or ()),
            priorities=tuple(priority or ()),
            is_burst=burst,
            wait=wait,
            health=health,
            watchdog=watchdog,
        )
        return run_workers(given, session, first)
