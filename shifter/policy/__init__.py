"""Decisions as pure functions: time and a random draw are arguments."""

from __future__ import annotations
