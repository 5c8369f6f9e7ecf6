"""The command with a bug that ``SHIFTER_BUG`` names; checkers must see it.

``SHIFTER_BUG=B16 python -m tests.acceptance.seeded dlt replay …``. The product knows
nothing of it: it is patched here, in this process.
"""

from __future__ import annotations

import os
import sys

from shifter.cli import main
from shifter.deadletter import plan
from shifter.wire.headers import ReadHeaders, successor


def b16_replay_drops_headers() -> None:
    def without_extra(read: ReadHeaders, **changes: object):
        return successor(read._replace(extra=[]), **changes)

    plan.successor = without_extra


BUGS = {"B16": b16_replay_drops_headers}

if __name__ == "__main__":
    if "SHIFTER_BUG" in os.environ:
        BUGS[os.environ.pop("SHIFTER_BUG")]()
    sys.exit(main(sys.argv[1:]))
