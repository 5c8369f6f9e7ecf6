"""``python -m benchmarks.balance_servers KIND...``: one HTTP server for each kind.

``healthy`` answers after 50 ms on average, half of that at least; ``slow`` takes ten
times as long; ``failing`` answers half of its calls with 500; ``stalled`` never
answers; ``tailed`` takes 1 s for 2 of 100 calls. ``/health`` is answered with 200,
as late as other paths. Prints the ports, and answers each line of stdin with the
calls that each server has got since the last line, health checks left out.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

MEAN_S = 0.05
_HEAD = b"HTTP/1.1 %d x\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """One server on loopback.

    Args:
        kind: What is wrong with it, or ``healthy``.
        number: Seeds its random numbers.

    Attributes:
        calls: Calls so far, health checks left out.
    """

    def __init__(self, kind: str, number: int) -> None:
        self._kind, self._draws = kind, random.Random(f"{kind} {number}")
        self.calls = 0

    async def start(self) -> int:
        """Listen; the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                is_check = head.split(b" ", 2)[1] == b"/health"
                self.calls += not is_check
                if self._kind == "stalled":
                    await reader.read()  # until the caller leaves
                    return
                await asyncio.sleep(self._takes_s())
                is_bad = self._kind == "failing" and self._draws.random() < 0.5
                writer.write(_HEAD % (500 if is_bad and not is_check else 200))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _takes_s(self) -> float:
        if self._kind == "tailed" and self._draws.random() < 0.02:
            return 1.0
        takes_s = MEAN_S * (0.5 + 0.5 * self._draws.expovariate(1))
        return 10 * takes_s if self._kind == "slow" else takes_s


async def main(kinds: list[str]) -> None:
    """Serve until stdin is closed."""
    servers = [Server(kind, number) for number, kind in enumerate(kinds)]
    print(json.dumps([await one.start() for one in servers]), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps([one.calls for one in servers]), flush=True)
        for one in servers:
            one.calls = 0


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
