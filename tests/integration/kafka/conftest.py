"""A cluster with one writer, and fresh lanes and groups for every test."""

from __future__ import annotations

import pytest

from tests.integration.kafka.bench import Bench, Site


@pytest.fixture(scope="session")
def site(kafka):
    made = Site(kafka.bootstrap)
    yield made
    made.close()


@pytest.fixture
async def bench(site):
    made = Bench(site)
    yield made
    await made.close()
