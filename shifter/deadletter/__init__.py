"""Dead letters: what failed and why, and how it goes back."""

from __future__ import annotations
