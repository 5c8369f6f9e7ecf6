"""The pages of ``shifter scaler``."""

from __future__ import annotations

import json

from shifter.ops.scale_reader import ScaleAnswer
from shifter.ops.scaling import ScaleGroup
from shifter.supervise.scaler_pages import ScalerPages

MAIL = ScaleGroup("mail", 1, 3, 60.0, "due_backlog")
FRESH = ScaleAnswer(1, [MAIL], 0.5, is_stale=False, error=None)
AWAY = "redis: refused"


class Reader:
    """Gives one answer."""

    def __init__(self, answer: ScaleAnswer) -> None:
        self.given = answer

    def answer(self) -> ScaleAnswer:
        return self.given

    async def fresh(self, *, wait_s: float) -> ScaleAnswer:
        return self.given


def pages(answer: ScaleAnswer) -> ScalerPages:
    return ScalerPages(Reader(answer), version="1")


def series(answer: ScaleAnswer) -> list[str]:
    body = pages(answer).page("/metrics").body.decode()
    return [line for line in body.splitlines() if line.startswith("shifter_scale_")]


def test_the_numbers_are_gauges():
    assert series(FRESH) == [
        'shifter_scale_workers{group="mail"} 1.0',
        'shifter_scale_desired_workers{group="mail"} 3.0',
        'shifter_scale_due_backlog_seconds{group="mail"} 60.0',
    ]


def test_a_stale_number_and_a_fallback_are_no_gauges():
    old = ScaleAnswer(1, [MAIL], 30.0, is_stale=True, error=AWAY)

    assert series(old) == []


def test_a_group_that_is_gone_leaves_no_series():
    served = pages(FRESH)
    served.page("/metrics")
    served._reader.given = ScaleAnswer(2, [], 0.5, is_stale=False, error=None)

    assert b"shifter_scale_workers{" not in served.page("/metrics").body


def test_a_scaler_is_ready_while_it_has_a_number_and_alive_in_any_case():
    none = ScaleAnswer(None, [], None, is_stale=True, error=AWAY)
    old = ScaleAnswer(1, [MAIL], 30.0, is_stale=True, error=AWAY)
    asked = {"fresh": FRESH, "old": old, "none": none}

    ready = {name: pages(one).page("/readyz").status for name, one in asked.items()}
    alive = {name: pages(one).page("/livez").status for name, one in asked.items()}

    assert ready == {"fresh": 200, "old": 200, "none": 503}
    assert set(alive.values()) == {200}


def test_other_pages_are_not_there():
    assert pages(FRESH).page("/startupz").status == 404


async def test_the_page_of_the_numbers_is_served_over_http():
    served = pages(FRESH)

    answer = await served._response(b"GET /scale HTTP/1.1\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body)["groups"][0]["desired"] == 3
