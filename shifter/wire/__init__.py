"""The published contract: what stands in a record, and how it is read safely."""

from __future__ import annotations
