"""``python -m tests.integration.forked_checks KIND LOG URL URL URL``: it forks.

Once its health checks have found that the last server, which is down, is ill, the
service forks, and prints so. Each side then waits until its own checks have found that
the first server is ill too, which becomes ill after the fork.
"""

from __future__ import annotations

import os
import sys
import time

from shifter import Shifter
from shifter.balance import GrpcCheck, HttpCheck
from shifter.config import Secret, Settings

_KINDS = {"http": HttpCheck, "grpc": GrpcCheck}


def main() -> None:
    kind, log, *urls = sys.argv[1:]
    settings = Settings(namespace="shop", log_url=Secret.of_url(log), spool="off")
    app = Shifter("shop", settings=settings)
    check = _KINDS[kind](every="1s", timeout="1s", unhealthy=2)
    render = app.dependency("render", endpoints=urls, health=check)

    def until_ill(place: int) -> None:
        until = time.monotonic() + 90
        while "health check" not in render.endpoint_views()[place].why:
            render.run_sync(lambda _: None)
            if time.monotonic() > until:
                sys.exit("it was not found ill")
            time.sleep(0.05)

    with app:
        until_ill(-1)
        child = os.fork()
        if child:
            print("forked", flush=True)
        until_ill(0)
        print("parent" if child else "child", flush=True)
        if not child:
            os._exit(0)
        _, status = os.waitpid(child, 0)
    sys.exit(status)


if __name__ == "__main__":
    main()
