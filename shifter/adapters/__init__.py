"""Kafka, Redis, SQLite and memory behind the ports; only adapters import vendors."""

from __future__ import annotations
