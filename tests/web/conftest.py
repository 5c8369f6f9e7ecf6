"""The operator's page on one file, asked over ASGI without a socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shifter import Shifter, wiring
from shifter.api.app import Shifter as App
from shifter.config import load_settings
from shifter.model.lane import Lane, Priority
from shifter.ports import TopicSpec
from shifter.web import Access, asgi

OPERATE, READ = "operate-0123456789", "read-0123456789abc"
HOME = "http://127.0.0.1:8080"
Opened = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An app with one queue, a dependency, and a log in a file."""
    file = tmp_path / "page.db"
    flags = {"log": f"sqlite://{file}", "max_payload_bytes": 2_000_000}
    settings = load_settings("shop", flags=flags, environ={}, cwd=tmp_path)
    found = Shifter("shop", settings=settings)
    mailer = found.dependency("mailer")

    @found.job(queue="mail", uses=mailer)
    async def send(number: int) -> None:
        """Send nothing."""

    return found


@pytest.fixture
async def lanes(app: App) -> None:
    """The topics of the app."""
    admin = wiring.open_admin(app.settings)
    topics = [Lane("shop", "mail", priority).name for priority in Priority]
    try:
        await admin.apply(
            [TopicSpec(name, 1, 86_400_000, 1_000_000) for name in topics]
        )
    finally:
        await admin.close()


@pytest.fixture
def opened(app: App) -> Opened:
    """Opens the page; closes its connections at the end."""

    @contextlib.asynccontextmanager
    async def opening(
        access: Access | None = None,
        *,
        peer: str = "127.0.0.1",
        base: str = HOME,
        redact: Callable[[str, Any], Any] | None = None,
    ) -> AsyncIterator[httpx.AsyncClient]:
        page = asgi(app, access=access, redact=redact)
        transport = httpx.ASGITransport(page, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            try:
                yield client
            finally:
                await page.close()

    return opening
