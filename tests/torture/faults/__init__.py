"""Faults, each an object that starts and heals; servers and processes are real."""

from __future__ import annotations
