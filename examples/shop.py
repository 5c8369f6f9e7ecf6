"""The README's fifteen lines, to be run as they stand."""

from __future__ import annotations

from shifter import Context, Priority, Retry, Shifter

app = Shifter("shop")


@app.job(queue="mail", priority=Priority.LOW, timeout="30s", deadline="6h", attempts=5)
async def send_receipt(ctx: Context, order_id: int, email: str) -> None:
    """Send a receipt; the first try at a slow host asks for another one."""
    if ctx.attempt == 1 and email.endswith("@slow.example"):
        raise Retry(after="10s")
    ctx.log.info("mail.sent", order_id=order_id)
