"""The public test kit: what jobs, adapters and their authors are tested with."""

from __future__ import annotations
