"""Shared state and clients of other systems; only this room knows vendors."""

from __future__ import annotations
