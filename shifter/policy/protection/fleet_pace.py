"""How often a process syncs with its fleet."""

from __future__ import annotations

from typing import Final

EVERY_S: Final = 0.2
"""Seconds between two syncs."""
