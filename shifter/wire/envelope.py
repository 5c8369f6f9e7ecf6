"""Envelope v1: what travels beside a payload, in one header called ``shifter``.

Compact JSON, readable in any Kafka tool and writable from any language. It is
attacker-controlled until `decode_envelope` has let it through: every field is
bounded, unknown fields are ignored, nesting is measured before anything is parsed.
"""

from __future__ import annotations
