"""Delivers jobs as HTTP requests: ``shifter work workers.http_relay:app``.

The target's answer decides: 2xx is done; 3xx and other 4xx are dead letters; 408 and
425 are tried again; 429 waits as long as it asks, uncharged; 503 with ``Retry-After``
waits that long, charged; any other 5xx, a broken connection and a timeout are failures
and follow the job's backoff. What is wanting on this side waits, uncharged. See
``workers/README.md``.
"""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import Any

from shifter import Context, DeadLetter, Retry, Shifter, Throttled
from workers.http_courier import Courier, DeliveryError, Reply, Target
from workers.http_fields import quoted, retry_after_s
from workers.http_resolver import LaterError
from workers.http_target import RefusedTargetError, TargetPolicy
from workers.http_upstreams import Upstreams

app = Shifter(os.environ.get("SHIFTER_NAMESPACE", "relay"))
policy = TargetPolicy.from_env(os.environ)
courier = Courier(policy)
upstreams = Upstreams(app, os.environ, policy)
_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY)


@app.job(timeout="30s", attempts=8, keep_status="1h")
async def deliver(
    ctx: Context,
    url: str,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    body: Any = None,
) -> None:
    """Send one request; text goes as it is, any other body as JSON."""

    async def attempt(courier: Courier, to: Target | None) -> None:
        ours = {
            "Idempotency-Key": quoted(ctx.idempotency_key),
            "X-Request-Timeout": f"{ctx.remaining_s:.3f}",
        }
        if ctx.traceparent is not None:
            ours["traceparent"] = ctx.traceparent
        try:
            reply = await courier.send(method, url, headers or {}, body, ours, to)
        except RefusedTargetError as error:
            raise DeadLetter(f"refused: {error}") from error
        except LaterError as error:
            raise Throttled(error.after_s) from error
        judge(reply, now_s=ctx.limit_ms / 1_000 - ctx.remaining_s)

    upstream = upstreams.of(url)
    await (attempt(courier, None) if upstream is None else upstream.run(attempt))


def judge(reply: Reply, *, now_s: float) -> None:
    """Return for a delivery; raise what any other answer means."""
    status, after_s = reply.status, retry_after_s(reply, now_s)
    said = f"HTTP {status} from {reply.host}"
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Throttled(5.0 if after_s is None else after_s)
    is_busy = status == HTTPStatus.SERVICE_UNAVAILABLE and after_s is not None
    if is_busy or status in _AGAIN:
        raise Retry(after_s) from DeliveryError(said)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise DeadLetter(said)
    raise DeliveryError(said)
