"""State shared by the fleet, in Redis (also Sentinel, Cluster, and Valkey)."""

from __future__ import annotations
