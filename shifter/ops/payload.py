"""Payloads and keys of records as values that a terminal and a page can show."""

from __future__ import annotations

from typing import Any

from shifter.deadletter.letter import shown_json
from shifter.errors import DecodeError


def readable(value: bytes) -> tuple[Any, str]:
    """A payload as JSON where it is JSON, else as hex, with which of the two."""
    try:
        return shown_json(value), "json"
    except (DecodeError, ValueError, RecursionError):
        return value.hex(), "hex"


def text_or_hex(raw: bytes) -> str:
    """Bytes as text where they are UTF-8, else as hex."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"hex:{raw.hex()}"
