"""The words of the product as plain values: no I/O, no clock, no vendor."""

from __future__ import annotations
