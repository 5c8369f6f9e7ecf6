"""The embedded log and the fleet's state: one SQLite file, one machine, no server."""

from __future__ import annotations
