"""How much one turn of the event loop decodes."""

from __future__ import annotations

import asyncio

from shifter.wire.headers import JSON
from shifter.work.executor import TURN_BYTES, Decoding


async def test_a_turn_decodes_as_much_as_its_budget_and_the_next_turn_again():
    decoding = Decoding()
    half = bytes(TURN_BYTES // 2)

    assert [decoding.fits(half, JSON) for _ in range(3)] == [True, True, False]
    await asyncio.sleep(0)
    assert decoding.fits(half, JSON)
    decoding.close()


async def test_msgpack_costs_more_of_the_budget_than_json():
    decoding = Decoding()
    payload = bytes(TURN_BYTES // 8)

    assert decoding.fits(payload, JSON)
    assert not decoding.fits(payload, "application/msgpack")
    decoding.close()


async def test_what_does_not_fit_is_decoded_in_a_thread():
    decoding = Decoding()

    assert await decoding.run(lambda value, kind: {kind: value}, b"1", JSON) == {
        JSON: b"1"
    }
    decoding.close()
