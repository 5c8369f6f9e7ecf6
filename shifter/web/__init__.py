"""The operator's page: `shifter web`, or mounted in a service.

It needs the extra ``ui``. Mounted in Starlette or FastAPI:

    from starlette.routing import Mount

    import shifter.web

    access = shifter.web.Access(operate_token=token)
    routes = [Mount("/shifter", shifter.web.asgi(app, access=access))]

Without `Access` the page answers only requests from the same machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shifter.web.access import Access, Role

if TYPE_CHECKING:
    from shifter.api.app import Shifter
    from shifter.web.pages import WebPage

__all__ = ["Access", "Role", "asgi"]


def asgi(
    app: Shifter,
    *,
    access: Access | None = None,
    redact: Callable[[str, Any], Any] | None = None,
) -> WebPage:
    """The operator's page as an ASGI application.

    Args:
        app: Its settings name the log and the state store; its jobs and windows are
            shown.
        access: Who may read and who may operate. ``None`` for requests from the same
            machine only, which may do both.
        redact: Called with the type of a job (empty for other records) and its
            payload; returns the payload that the page shows. If it raises, nothing of
            the payload is shown.

    Raises:
        ConfigError: No log is configured.
    """
    # Starlette and Jinja are an extra, which `Access` alone does not need.
    from shifter.web.pages import WebPage  # noqa: PLC0415

    return WebPage(app, access or Access(), redact)
