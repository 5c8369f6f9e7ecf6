"""``python -m tests.integration.forked_service URL``: a service that forks.

It defers a job, forks while the event of that job is queued, and defers one on each
side; the ids are printed.
"""

from __future__ import annotations

import os
import sys

from shifter import Shifter
from shifter.config import Secret, Settings


def main() -> None:
    url = Secret.of_url(sys.argv[1])
    settings = Settings(namespace="shop", log_url=url, events="all")
    app = Shifter("shop", settings=settings)

    @app.job
    async def send(number: int) -> None: ...

    with app:
        print(send.defer_sync(1).job_id, flush=True)
        child = os.fork()
        print(send.defer_sync(2).job_id, flush=True)
        if child:
            _, status = os.waitpid(child, 0)
            assert status == 0


if __name__ == "__main__":
    main()
