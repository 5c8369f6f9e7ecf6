"""The jobs of both services, and what a worker runs.

    shifter work examples.services.reports:app

A report is written to a file named after its job, so that the web service can hand it
out, whichever worker made it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from shifter import Context, Priority, Shifter

app = Shifter(os.environ.get("SHIFTER_NAMESPACE", "reports"))

FOLDER = Path(os.environ.get("REPORTS", Path(tempfile.gettempdir()) / "reports"))


@app.job(
    priority=Priority.HIGH,
    timeout="30s",
    deadline="5m",
    keep_status="1h",
    repair=True,
)
async def make_report(ctx: Context, order: str, pages: int = 1) -> dict[str, object]:
    """Takes 50 ms a page, and stops where no caller waits for it any more."""
    for _ in range(pages):
        ctx.checkpoint()
        await asyncio.sleep(0.05)
    report: dict[str, object] = {"order": order, "pages": pages}
    await asyncio.to_thread(_keep, ctx.job_id, f"order {order}: {pages} pages\n")
    return report


@make_report.fallback
async def summary(order: str, pages: int = 1) -> dict[str, object]:
    """The cheaper answer: what is known without making anything."""
    return {"order": order, "pages": pages, "summary": True}


def path_of(job_id: str) -> Path:
    """Where a report is."""
    return FOLDER / f"{job_id}.txt"


def _keep(job_id: str, text: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path_of(job_id).write_text(text)
