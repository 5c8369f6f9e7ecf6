"""Deployable worker programs. They see only ``import shifter``, like any user's."""

from __future__ import annotations
