"""Numbers that msgspec checks, within the bounds of `shifter.model.fleet`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from shifter.model.fleet import MAX_COUNT, MAX_INSTANT_MS, MAX_RATE

Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
InstantMs: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INSTANT_MS)]
Rate: TypeAlias = Annotated[float, Meta(ge=0, le=MAX_RATE)]
