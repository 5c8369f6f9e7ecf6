"""The worker's side: fetch, choose, claim, run, hand on, settle."""

from __future__ import annotations
