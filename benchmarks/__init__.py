"""Measurements against raw clients in the same run: ratios, since machines are noisy."""

from __future__ import annotations
