"""Instants that must not be mixed up: mypy rejects one where another is wanted."""

from __future__ import annotations

from typing import NewType

EpochMs = NewType("EpochMs", int)
"""Wall clock, milliseconds since 1970-01-01 UTC."""

StoreMs = NewType("StoreMs", int)
"""Wall clock of the shared store (Redis ``TIME``), milliseconds."""

Monotonic = NewType("Monotonic", float)
"""Seconds of this process's monotonic clock."""
