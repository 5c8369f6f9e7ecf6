"""Settings from flag > environment > file > default, validated once."""

from __future__ import annotations

from shifter.config.endpoint import Secret
from shifter.config.load import load_settings
from shifter.config.settings import Settings

__all__ = ["Secret", "Settings", "load_settings"]
