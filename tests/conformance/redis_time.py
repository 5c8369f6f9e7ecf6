"""Lets a Redis server's clock go on for one namespace, without waiting."""

from __future__ import annotations

from shifter.adapters.redis.claim_scripts import decode_claim, encode_claim


async def age_claims(client, namespace, ms):
    """Make every claim of the namespace look ``ms`` older, or younger (< 0)."""
    async for key in client.scan_iter(match=f"shifter:{{{namespace}:*}}:claim:*"):
        left_ms = await client.pttl(key)
        assert left_ms > 0, "a claim without a time to live"
        left_ms -= ms
        value = await client.get(key)
        if left_ms <= 0:
            await client.delete(key)
        elif (claim := decode_claim(value)) is not None:
            lease_end_ms = claim.lease_end_ms and claim.lease_end_ms - ms
            older = claim._replace(
                lease_end_ms=lease_end_ms, updated_ms=claim.updated_ms - ms
            )
            await client.set(key, encode_claim(older), px=left_ms)
        else:
            await client.pexpire(key, left_ms)


async def age_reports(client, namespace, ms):
    """Make every report of the namespace look ``ms`` older."""
    async for key in client.scan_iter(match=f"shifter:{{{namespace}:*}}:presence:*"):
        left_ms = await client.pttl(key)
        assert left_ms > 0, "a key without a time to live"
        left_ms -= ms
        if await client.type(key) == b"zset":
            for member, until_ms in await client.zrange(key, 0, -1, withscores=True):
                await client.zadd(key, {member: until_ms - ms})
        if left_ms <= 0:
            await client.delete(key)
        else:
            await client.pexpire(key, left_ms)


async def forget(client, namespace):
    """Delete every key of the namespace."""
    async for key in client.scan_iter(match=f"shifter:{{{namespace}:*}}:*"):
        await client.delete(key)
