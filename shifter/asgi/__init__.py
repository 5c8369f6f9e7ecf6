"""Admission for ASGI services: FastAPI, Starlette, Litestar, or none of them.

    from shifter.asgi import AdmissionMiddleware

    service = AdmissionMiddleware(service, app, jobs={"POST /reports": make_report})

Needs nothing but shifter.
"""

from __future__ import annotations

from shifter.asgi.middleware import AdmissionMiddleware
from shifter.asgi.request import Request, calling

__all__ = ["AdmissionMiddleware", "Request", "calling"]
