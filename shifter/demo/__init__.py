"""The demo for a newcomer: ten minutes of a real overload, played in one.

``shifter demo`` brings everything along: a recorded trace, a small backend, two worker
processes, a log in a temporary folder. It uses the product as any user would: an app
with two job types, ``shifter work``, and the log's admin. Only the verb `shifter demo`
imports this package.
"""

from __future__ import annotations
