"""Twins of the ports that live in this process: for tests and the simulator."""

from __future__ import annotations
