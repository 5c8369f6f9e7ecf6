"""A web service in front of which shifter decides: FastAPI.

    pip install 'shifter-queue[examples]'
    uvicorn examples.services.web:service

    curl -d '{"order": "7", "pages": 3}' localhost:8000/reports
    curl -i -H 'prefer: respond-async' -d '{"order": "7"}' localhost:8000/reports
    curl -iL localhost:8000/jobs/<job id>

``POST /reports`` is a job: run here, deferred to a worker, answered cheaper or refused.
Every other request takes a slot or is refused; ``/healthz`` always passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse

from examples.services.reports import app, make_report, path_of
from shifter import Priority
from shifter.asgi import AdmissionMiddleware, Request
from shifter.jobs.request_scope import ambient


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """The log is open while the service runs, and flushed at its end."""
    async with app:
        yield


def classify(request: Request) -> Priority | None:
    """People first: what only fills a cache can wait."""
    return Priority.LOW if request.path.startswith("/prefetch/") else None


service = FastAPI(title="reports", lifespan=lifespan)
service.add_middleware(
    AdmissionMiddleware,
    app=app,
    jobs={"POST /reports": make_report},
    classify=classify,
    user=lambda request: request.headers.get("x-user"),  # set by a proxy that knows
    result=lambda job_id: f"/reports/{job_id}",
)


@service.get("/reports/{job_id}", response_class=PlainTextResponse)
async def report(job_id: UUID) -> str:
    """What a done job has made; where its status resource points to."""
    try:
        return await asyncio.to_thread(path_of(str(job_id)).read_text)
    except FileNotFoundError:
        raise HTTPException(404, "no such report") from None


@service.get("/orders/{number}")
async def order(number: int, seconds: float = 0.0) -> dict[str, object]:
    """An ordinary request; it sees what its caller still waits for."""
    await asyncio.sleep(min(seconds, 600.0))
    return {"order": number, "deadline_ms": ambient().deadline_ms}


@service.get("/healthz")
async def healthz() -> dict[str, bool]:
    """Never refused: a busy process is not a dead one."""
    return {"ok": True}
