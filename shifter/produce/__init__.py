"""The service's side: turn a call into a durable record and a definite answer."""

from __future__ import annotations
