"""An operator in a real browser, with nothing but the page.

One of three dependencies fails. The operator finds which one, since when, how many jobs
wait for it and when they will be done, and sends its dead letters back once it is
healed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from shifter.model.lane import dead_letter_topic
from shifter.wire.dead_letter import dead_letter_headers
from shifter.wire.headers import build_headers
from stack.errors import Missing
from stack.install import program
from stack.kafka import KafkaCluster
from stack.redis import RedisServer
from tests.acceptance.conftest import EMBEDDED, SERVERS
from tests.acceptance.fleet import ROOT, Fleet
from tests.unit.deadletter.letters import envelope, info

TARGET = "tests.acceptance.operator_jobs:app"
COMMAND = (sys.executable, "-m", "shifter.cli")
JOBS = 30
GENEROUS_MS = 60_000
PICTURE_BYTES = 200_000
DEAD = 'section[aria-labelledby="h-letters"] td'
REASON = "the mail server is back"
TOKENS = {"read": "read-0123456789abc", "operate": "operate-0123456789"}
SCRIPT = '<script>alert(1)</script><img src=x onerror="alert(2)">'

pytestmark = pytest.mark.timeout(300)


class Operator(Fleet):
    """A fleet, its page, and the file that breaks a dependency."""

    def serve(self, *arguments: str, **environment: str) -> str:
        """Start the page on a free port; returns its address."""
        log = self.folder / f"web-{len(self.workers)}.log"
        with log.open("wb") as out:
            self.workers.append(
                subprocess.Popen(
                    [*COMMAND, "web", TARGET, "--listen", "127.0.0.1:0", *arguments],
                    env={**self.environment, **environment},
                    cwd=ROOT,
                    stdout=out,
                    stderr=out,
                )
            )
        self.until(lambda: b"page is at" in log.read_bytes())
        return re.search(r"http://\S+/", log.read_text())[0]

    def broken(self, name: str) -> Path:
        return self.folder / f"broken-{name}"

    def paced(self, name: str) -> Path:
        return self.folder / f"paced-{name}"

    def submit(self, job: str, numbers: range) -> None:
        script = (
            "from tests.acceptance.operator_jobs import app\n"
            f"job = app.find_job({job!r})\n"
            f"with app:\n for n in {numbers!r}: job.defer_sync(number=n)\n"
        )
        subprocess.run(
            [sys.executable, "-c", script],
            env={**self.environment, "SHIFTER_SPOOL": "off"},
            cwd=ROOT,
            check=True,
            timeout=60,
        )


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[KafkaCluster]:
    """A broker that holds nothing else.

    A page reads less often the more a broker holds, and that of a whole run holds
    thousands of topics.
    """
    cluster = KafkaCluster().start()
    try:
        cluster.warm()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=[EMBEDDED, SERVERS])
def fleet(request, namespace, tmp_path) -> Iterator[Operator]:
    redis = None
    if request.param == "servers":
        # They skip where there is none.
        request.getfixturevalue("redis_server")
        request.getfixturevalue("kafka")
        redis = RedisServer().start()  # of its own, since the test stops it
        log, state = request.getfixturevalue("own_kafka").url, redis.url
    else:
        log = state = f"sqlite://{tmp_path / 'fleet.db'}"
        namespace = "shop"  # a file of its own needs no name of its own
    fleet = Operator(log, state, namespace, tmp_path)
    fleet.environment["SHIFTER_NAMESPACE"] = namespace
    fleet.redis = redis
    fleet.run("topics", "apply", TARGET)
    try:
        yield fleet
    finally:
        fleet.close()
        if redis is not None:
            redis.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        chromium = program("chromium", package="chromium", of="Chromium")
    except Missing as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(GENEROUS_MS)
    expect.set_options(timeout=GENEROUS_MS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda line: faults.append(line.text) if line.type == "error" else None,
    )
    hosts = set[str]()
    page.on("request", lambda sent: hosts.add(urlsplit(sent.url).hostname))
    yield page
    context.close()
    assert hosts == {"127.0.0.1"}, "the page asked another host"
    # Lines for an answer with an error's status, and for a stream that broke.
    usual = ("Failed to load resource", "[object Event]")
    assert [text for text in faults if not text.startswith(usual)] == []


def test_an_operator_finds_the_broken_dependency_and_sends_its_letters_back(
    fleet, page
):
    fleet.broken("mailer").touch()
    fleet.work("--concurrency", "4", target=TARGET)
    home = fleet.serve()
    for job in ("pay", "print_out", "send"):
        fleet.submit(job, range(JOBS))

    page.goto(home)

    mailer = _find_the_broken_one(page)
    _count_what_waits(fleet, page, mailer)
    _is_accessible(page)
    _picture(page, "web.png", fleet.folder)
    _is_readable_on_a_phone(page)
    # What waits does not end before the page has read how fast it ends.
    fleet.paced("mailer").touch()
    fleet.broken("mailer").unlink()
    _see_when_it_will_be_done(fleet, page, mailer)
    dead = _number(page.locator(DEAD))
    _send_the_dead_letters_back(fleet, page, dead)

    page.get_by_role("link", name="shifter").click()
    expect(page.locator(".answers")).to_contain_text("Nothing waits")
    expect(page.locator('section[aria-labelledby="h-letters"]')).to_contain_text(
        "No dead letter"
    )
    fleet.until(lambda: len(fleet.effects("mailer")) == JOBS)
    done = Counter(number for _, number, *_ in fleet.effects("mailer"))
    assert done == {str(number): 1 for number in range(JOBS)}
    [run] = fleet.json("dlt", "runs")
    assert (run["reason"], run["counts"]["sent"]) == (REASON, dead)


def _find_the_broken_one(page: Page) -> Locator:
    """Which one, and since when?"""
    mailer = page.locator('tr[data-dependency="mailer"]')
    expect(mailer).to_have_class("ill")
    for name in ("bank", "printer"):
        row = page.locator(f'tr[data-dependency="{name}"]')
        expect(row).to_have_class("well")
    expect(page.locator(".banner")).to_contain_text("Degraded")
    expect(page.locator(".answers")).to_contain_text("Calls are kept back from mailer.")
    since = mailer.locator("time").inner_text()
    now = time.strftime("%H:%M:%S", time.gmtime())
    assert since <= now or now < "00:10"
    expect(page.locator(".mode time")).to_have_text(since)
    changes = page.locator("#changes")
    expect(changes).to_contain_text("circuit of mailer opened")
    expect(changes).to_contain_text("1 worker started")
    return mailer


def _count_what_waits(fleet: Operator, page: Page, mailer: Locator) -> None:
    """How many wait? What failed before the circuit opened is a dead letter."""
    dead = page.locator(DEAD)
    expect(dead).to_have_text(re.compile(r"\d+"))
    fleet.until(lambda: _waiting(mailer) + _number(dead) == JOBS)
    assert _waiting(mailer) > JOBS / 2
    expect(mailer).to_contain_text("not while it is")
    expect(page.locator(".answers")).to_contain_text("Not before mailer is back")
    expect(page.locator(".answers")).to_contain_text(
        "wait for mailer to be called again"
    )
    expect(page.locator('section[aria-labelledby="h-flow"] canvas')).to_be_visible()


def _see_when_it_will_be_done(fleet: Operator, page: Page, mailer: Locator) -> None:
    """Healed: the page follows without being loaded again."""
    expect(mailer).to_have_class("well")
    expect(mailer).to_contain_text(re.compile(r"about [\d.]+(s|m)"))
    expect(page.locator(".answers")).to_contain_text("In about")
    fleet.paced("mailer").unlink()
    expect(mailer.locator(".waiting")).to_have_text("0")
    expect(mailer).to_contain_text("nothing waits")


def _send_the_dead_letters_back(fleet: Operator, page: Page, count: int) -> None:
    """The dead letters go back, after a look at what would be done."""
    page.get_by_role("link", name="mail", exact=True).click()
    expect(page.get_by_role("table")).to_contain_text("ConnectionError")
    _is_accessible(page)
    page.get_by_role("link", name="Replay all…").click()
    expect(page.locator("#forecast")).to_contain_text(f"{count} of {count} selected")
    assert page.locator("svg.course rect").count() > 0
    page.get_by_label("Reason").fill(REASON)
    _is_accessible(page)
    _picture(page, "web-replay.png", fleet.folder)
    page.get_by_role("button", name=f"Replay {count} dead letters").click()
    expect(page.locator("#state")).to_contain_text("done")
    expect(page.locator("#run")).to_contain_text(f"{count} sent")
    _is_accessible(page)


def test_an_operator_steers_the_fleet_and_each_action_is_kept(fleet, page):
    fleet.work("--concurrency", "4", target=TARGET)
    home = fleet.serve()
    fleet.submit("pay", range(1))

    _open_and_release_a_circuit(fleet, page, home)
    _reduce_the_quality_by_keyboard(fleet, page, home)
    _hide_and_show(fleet, page, home)
    log = "".join(path.read_text() for path in fleet.folder.glob("web-*.log"))
    for text in ("circuit open", "circuit auto", "quality REDUCED", "maintenance"):
        assert text in log
    if fleet.redis is not None:
        _take_the_stores_away(fleet, page)
    web = fleet.workers[1]
    web.send_signal(signal.SIGTERM)
    assert web.wait(30) == 0


def _open_and_release_a_circuit(fleet: Operator, page: Page, home: str) -> None:
    """A circuit by hand, for a while and with a reason; nothing without one."""
    page.goto(home)
    page.locator('tr[data-dependency="bank"]').get_by_role("link").click()
    page.get_by_role("button", name="Open: no calls").click()
    expect(page.locator("main")).to_contain_text("say why")
    page.go_back()
    page.get_by_label("Reason").fill("maintenance")
    page.get_by_label("For how long").fill("10m")
    page.get_by_role("button", name="Open: no calls").click()
    expect(page.locator("h1")).to_contain_text("open by hand")
    fleet.submit("pay", range(1, 3))
    page.goto(home)
    bank = page.locator('tr[data-dependency="bank"]')
    expect(bank).to_have_class("ill")
    expect(bank.locator(".waiting")).to_have_text("2")
    page.reload()
    expect(bank).to_have_class("ill")
    bank.get_by_role("link").click()
    page.get_by_role("button", name="Automatic").click()
    fleet.until(lambda: len(fleet.effects("bank")) == 3)


def _reduce_the_quality_by_keyboard(fleet: Operator, page: Page, home: str) -> None:
    page.goto(f"{home}settings")
    _is_accessible(page)
    page.get_by_label("Reason").first.focus()
    page.keyboard.type("a model is down")
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".pill").first).to_have_text("REDUCED")
    assert fleet.json("quality", "show")["by_hand"]["reason"] == "a model is down"


def _hide_and_show(fleet: Operator, page: Page, home: str) -> None:
    """A page that is hidden reads nothing; its stream begins again when it is shown."""
    page.goto(home)
    expect(page.locator("#live[sse-connect]")).to_have_count(1)
    _set_hidden(page, is_hidden=True)
    expect(page.locator("#live[sse-connect]")).to_have_count(0)
    kept = page.locator("#banner").inner_text()
    fleet.submit("pay", range(3, 4))
    fleet.until(lambda: len(fleet.effects("bank")) == 4)
    assert page.locator("#banner").inner_text() == kept
    _set_hidden(page, is_hidden=False)
    expect(page.locator("#banner")).not_to_have_text(kept)
    shown = page.locator(".age").inner_text()
    expect(page.locator(".age")).not_to_have_text(shown)


def _take_the_stores_away(fleet: Operator, page: Page) -> None:
    """The page lives when a store is away, and says so."""
    fleet.redis.stop()
    expect(page.locator("#banner")).to_contain_text("circuits are not shown")
    expect(page.locator(".answers")).to_contain_text("Not known")
    page.goto(fleet.serve(SHIFTER_LOG="kafka://127.0.0.1:1"))
    expect(page.locator("#banner")).to_contain_text("The log does not answer")


@pytest.mark.parametrize("fleet", [SERVERS], indirect=True)
def test_two_roles_see_a_hostile_payload_and_a_broker_that_goes_away(
    fleet, page, own_kafka
):
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    flags = []
    for role, token in TOKENS.items():
        file = fleet.folder / role
        file.write_text(token)
        flags += [f"--{role}-token", str(file)]
    home = fleet.serve(*flags)
    _put_a_hostile_letter(fleet)

    _a_reader_sees_no_payload_and_no_action(page, home)
    _an_operator_sees_the_payload_as_text(page, home)
    _the_page_outlives_the_broker(page, home, own_kafka)
    assert dialogs == []


def _put_a_hostile_letter(fleet: Operator) -> None:
    """A payload of a megabyte, with a script, escapes and text that runs backwards."""
    value = json.dumps({"text": f"{SCRIPT}\x1b[31m\u202egnp.exe" + "x" * 950_000})
    original = build_headers(
        envelope(1), content_type="application/json", extra=[("note", SCRIPT.encode())]
    )
    headers = dead_letter_headers(info(1, error_message=SCRIPT), original)
    topic = dead_letter_topic(fleet.namespace, "mail")
    fleet.put(topic, value.encode(), headers)


def _log_in(page: Page, home: str, role: str) -> None:
    page.context.clear_cookies()
    page.goto(home)
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Token").fill(TOKENS[role])
    page.get_by_role("button", name="Log in").click()
    expect(page.locator(".person")).to_contain_text(role)


def _open_the_letter(page: Page, home: str) -> None:
    page.goto(f"{home}dead-letters/mail/letters")
    page.locator('main a[href*="/at/"]').first.click()
    expect(page.locator("h1")).to_contain_text("Dead letter")


def _a_reader_sees_no_payload_and_no_action(page: Page, home: str) -> None:
    _log_in(page, home, "read")
    for path in ("", "settings", "dependencies/mailer"):
        page.goto(f"{home}{path}")
        expect(page.locator("h1")).to_be_attached()
        assert page.locator('form[method="post"], main button').count() == 0
    _open_the_letter(page, home)
    expect(page.locator("main")).to_contain_text("Hidden: only the role “operate”")
    assert page.locator("main form, main button, main .buttons").count() == 0
    assert "xxxx" not in page.content()


def _an_operator_sees_the_payload_as_text(page: Page, home: str) -> None:
    _log_in(page, home, "operate")
    _open_the_letter(page, home)
    payload = page.locator("#payload")
    for part in (
        SCRIPT[:20],
        r"\u001b[31m",
        r"\u202e",
        "more characters are not shown",
    ):
        expect(payload).to_contain_text(part)
    assert page.locator("main script, main img").count() == 0
    assert len(page.content()) < 100_000
    page.get_by_role("link", name="Replay it…").click()
    expect(page.locator("h1")).to_contain_text("Replay dead letters")
    page.go_back()
    expect(payload).to_contain_text("more characters are not shown")
    page.reload()
    expect(payload).to_contain_text("more characters are not shown")


def _the_page_outlives_the_broker(page: Page, home: str, kafka: KafkaCluster) -> None:
    """It says that its data are old, also when it is loaded again; then it recovers."""
    page.goto(home)
    expect(page.locator(".banner:not(.stale)")).to_be_visible()
    kafka.kill()
    try:
        expect(page.locator(".banner.stale")).to_contain_text("old")
        page.reload()
        expect(page.locator(".banner.stale")).to_contain_text("old")
        page.get_by_role("link", name="Lanes", exact=True).click()
        expect(page.locator("h1")).to_contain_text("Lanes")
    finally:
        kafka.restart()
    page.go_back()
    expect(page.locator(".banner:not(.stale)")).to_be_visible()
    expect(page.locator("#live[sse-connect]")).to_have_count(1)


@pytest.mark.parametrize("fleet", [EMBEDDED], indirect=True)
def test_the_page_can_be_read_without_javascript_and_in_the_dark(fleet, browser):
    home = fleet.serve()
    fleet.submit("pay", range(5))
    context = browser.new_context(java_script_enabled=False, color_scheme="dark")
    try:
        page = context.new_page()
        page.set_default_timeout(GENEROUS_MS)

        def shows_the_jobs() -> bool:
            page.goto(home)
            text = page.locator("main").inner_text()
            return "5 jobs are kept in the log." in text

        fleet.until(shows_the_jobs)
    finally:
        context.close()


def _waiting(row) -> int:
    return _number(row.locator(".waiting"))


def _number(cell) -> int:
    return int(re.sub(r"\D", "", cell.first.inner_text()) or 0)


def _is_accessible(page: Page) -> None:
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        bad = [
            (each["id"], [node["html"] for node in each["nodes"]])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        assert bad == []


def _is_readable_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert wide <= 360


def _set_hidden(page: Page, *, is_hidden: bool) -> None:
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def _picture(page: Page, name: str, folder: Path) -> None:
    """Take a picture; `PICTURES=docs` in the environment renews those of the docs."""
    path = Path(os.environ.get("PICTURES", folder)) / name
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size <= PICTURE_BYTES
