"""``python -m shifter``: the command ``shifter``."""

from __future__ import annotations

import sys

from shifter.cli import main

# Worker processes import this module anew; only the command itself may run it.
if __name__ == "__main__":
    sys.exit(main())
