"""Every command of the pages' console and sh blocks, run as a newcomer would.

A block is found by its page and a text in it. What it needs to be there (dead letters, a
process that calls a dependency) is made first; a port or a secret's path is replaced by
one that is free here. A block that no test names fails the first one.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from shifter.cli.status import BUDGETS, CIRCUITS
from shifter.wire.envelope import EnvelopeV1
from tests.documents.blocks import (
    PAGES,
    ROOT,
    Block,
    blocks,
    program_name,
    write_programs,
)

pytestmark = pytest.mark.timeout(240)

LETTERS = """
from shifter import DeadLetter, Shifter

app = Shifter("shop")


class SMTPError(Exception):
    pass


@app.job(queue="mail", attempts=1)
async def fail(number: int) -> None:
    raise SMTPError("relay is down")
"""
DEFER = """
import asyncio
from letters import app, fail

async def main():
    async with app:
        await fail.defer_many([(number,) for number in range(50)])

asyncio.run(main())
"""
# A newcomer at a terminal is asked before dead letters are sent, and says yes.
YES = """
shifter() {
  case "$*" in
    "dlt replay"*--dry-run*|"dlt replay"*--yes*) command shifter "$@" ;;
    "dlt replay"*) command shifter "$@" --yes ;;
    *) command shifter "$@" ;;
  esac
}
"""
# No image is built and no cluster is asked: what kubectl can do alone, it does.
CLUSTER = """
docker() { test -f Dockerfile; }
kubectl() {
  case "$1" in
    kustomize) command kubectl "$@" ;;
    create) command kubectl "$@" --dry-run=client --output name ;;
    apply) command kubectl kustomize "$3" > applied.yaml ;;
    exec) while test "$1" != --; do shift; done; shift; "$@" ;;
    *) asked_nobody kubectl "$@" --server http://127.0.0.1:1 ;;
  esac
}
# A command that is written wrongly never comes to ask.
asked_nobody() {
  local said
  if said=$(command "$@" 2>&1); then return 1; fi
  grep -q "was refused" <<< "$said" || { echo "$said" >&2; return 1; }
}
helm() { test -f "${@: -1}"; }
"""
CALL = """
import asyncio, contextlib, {page} as page
from shifter.errors import RejectedError

async def main():
    async with page.app:
        while True:
            await asyncio.sleep(0.05)
            # A machine that is busy may let no call through for a while.
            with contextlib.suppress(RejectedError):
                async with page.mailer:
                    await asyncio.sleep(0)

asyncio.run(main())
"""

RENDERING = """
import asyncio
from shifter import Shifter

app = Shifter("shop")
render = app.dependency("render", endpoints=["10.0.0.1:8080", "10.0.0.2:8080"])

async def main():
    async with app:
        while True:
            async with render.call():
                await asyncio.sleep(0.01)

asyncio.run(main())
"""


def block(page: str, words: str) -> Block:
    """The one console or sh block of a page that holds these words."""
    [found] = [b for b in blocks("console", "sh", page=page) if words in b.text]
    return found


class Newcomer:
    """Somebody with an empty home, the command on the path, and no index to ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        self.environ = kept | {
            "XDG_STATE_HOME": str(folder / "state"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            # What is installed already is neither fetched again nor replaced.
            "PIP_TARGET": str(folder / "site"),
            "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
        }

    def run(self, script: str, *, at: Path | None = None, **environ: str) -> str:
        """What a shell prints that ends at the first failure."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder if at is None else at,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, program: str) -> Iterator[None]:
        """A python program in the background."""
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=self.folder, env=self.environ
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def newcomer(tmp_path) -> Newcomer:
    """With the README's ``shop/jobs.py`` in an otherwise empty folder."""
    write_programs("README.md", tmp_path)
    return Newcomer(tmp_path)


@pytest.fixture
def with_letters(newcomer) -> Newcomer:
    """Fifty dead letters in the queue ``mail`` of the namespace ``shop``."""
    (newcomer.folder / "letters.py").write_text(LETTERS)
    newcomer.environ["SHIFTER_NAMESPACE"] = "shop"
    newcomer.run("shifter topics apply letters:app")
    newcomer.run(f"{sys.executable} -c '{DEFER}'")
    newcomer.run("shifter work letters:app --burst")
    return newcomer


def test_every_block_of_commands_is_run_by_a_test():
    tests = "\n".join(
        inspect.getsource(value)
        for name, value in globals().items()
        if name.startswith("test_") and name != inspect.stack()[0].function
    )
    named = {
        block(page, words)
        for page, words in re.findall(r'block\(\s*"([^"]+)", "([^"]+)"\s*\)', tests)
    }

    assert named == set(blocks("console", "sh"))


# --- README ---------------------------------------------------------------------------


def test_the_quick_start_runs_without_any_server(newcomer):
    commands = block("README.md", "pip install .").commands

    newcomer.run(commands, at=ROOT)

    assert (newcomer.folder / "site" / "shifter").is_dir()
    assert (newcomer.folder / "state" / "shifter" / "shop.db").exists()
    left = json.loads(newcomer.run("shifter status --namespace shop --json"))
    assert sum(lane["waiting"] for lane in left["lanes"]) == 0


def test_the_demo_loses_nothing(newcomer):
    out = newcomer.run(block("README.md", "make demo").commands, at=ROOT)

    assert '"lost":0' in out.replace(" ", "")


@pytest.mark.kafka
@pytest.mark.redis
def test_the_same_commands_run_on_kafka_and_redis(newcomer):
    commands = block("docs/how-to/kafka-and-redis.md", "make stack-down").commands
    try:
        out = newcomer.run(commands, at=ROOT)
    finally:
        subprocess.run(
            ["make", "stack-down"], cwd=ROOT, env=newcomer.environ, check=False
        )

    assert re.search(r"^mail +LOW +1 ", out, re.MULTILINE), out


def test_settings_of_own_servers_are_read(newcomer):
    commands = block(
        "docs/how-to/kafka-and-redis.md", "SHIFTER_KAFKA__SASL_PASSWORD_FILE"
    ).commands
    secret = newcomer.folder / "password"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    commands = commands.replace("/run/secrets/kafka_password", str(secret))

    out = newcomer.run(f"{commands}\nshifter config show --json --namespace shop")

    shown = json.loads(out)
    assert "h1:9092,h2:9092" in shown["log"]["value"]
    assert shown["state"]["value"] == "rediss://***@redis.internal:6379/0"
    assert shown["kafka.sasl.password"]["origin"].endswith("_FILE")
    assert "s3cret" not in out


# --- docs/ ----------------------------------------------------------------------------


def test_commands_of_the_tutorial_run_without_any_server(newcomer):
    install = block("docs/tutorial/first-job.md", "shifter version")
    submit = block("docs/tutorial/first-job.md", "shifter status")
    work = block("docs/tutorial/first-job.md", "shifter doctor")

    newcomer.run(install.commands, at=ROOT)
    out = newcomer.run(submit.commands, at=ROOT)
    newcomer.run(work.commands, at=ROOT)

    assert re.search(r"^mail +LOW +1 ", out, re.MULTILINE), out


def test_explain_shows_every_rule_of_the_page(newcomer):
    example = block("docs/explanation/admission.md", "shifter explain")

    out = newcomer.run(example.commands, at=ROOT)

    table = example.text.splitlines()[1:-1]
    assert out.split()[:4] == table[0].split()
    rules = [re.split(r"  +", line)[0] for line in table[1:]]
    assert [
        rule for rule in rules if not re.search(f"^{rule} ", out, re.MULTILINE)
    ] == []


def test_completion_is_installed_as_the_page_shows(newcomer):
    commands = block("docs/reference/cli.md", "shifter completion").commands

    newcomer.run(commands, HOME=str(newcomer.folder))

    place = ".local/share/bash-completion/completions/shifter"
    text = (newcomer.folder / place).read_text()
    assert "complete -F _shifter shifter" in text


def test_services_of_the_page_answer(newcomer):
    example = block("docs/how-to/services.md", "uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    # Who types is slower than this, so that the services are up by then.
    retry = "--retry 60 --retry-delay 1 --retry-connrefused"
    patient = f'curl() {{ command curl -sS {retry} "$@"; }}'
    stop = "trap 'kill $(jobs -p) 2> /dev/null; wait' EXIT"
    commands = example.commands.replace(":8000", f":{port}")
    del newcomer.environ["PIP_TARGET"]

    script = f"{patient}\n{stop}\n{commands}"
    out = newcomer.run(script, at=ROOT, UVICORN_PORT=str(port))

    printed = [line for line in example.text.splitlines() if not line.startswith("$ ")]
    assert printed[0] in out
    assert printed[1] in out.replace("\r", "")
    assert re.search(r"^location: /jobs/[0-9a-f-]{36}\r?$", out, re.MULTILINE)


@pytest.mark.alone
def test_users_hardly_notice_servers_that_break_one_after_another(newcomer):
    example = block("docs/how-to/endpoints.md", "examples.balance")

    out = newcomer.run(example.commands, at=ROOT)

    def shown(text):
        lines = text.splitlines()
        return [line.partition(":")[0] for line in lines if line.endswith(" failed")]

    assert shown(out) == shown(example.text)
    failed, made = re.search(
        r"^(\d+) of (\d+) requests failed", out, re.MULTILINE
    ).groups()
    assert int(failed) <= 0.001 * int(made)


def test_an_endpoint_is_drained_and_restored_as_the_page_shows(newcomer):
    example = block("docs/how-to/endpoints.md", "shifter dependency drain")
    newcomer.environ["SHIFTER_NAMESPACE"] = "shop"
    program = newcomer.folder / "rendering.py"
    program.write_text(RENDERING)
    known = (
        "until shifter dependency show render | grep -q 10.0.0.2; do sleep 0.2; done"
    )

    with newcomer.running("import rendering"):
        out = newcomer.run(f"{known}\n{example.commands}")

    shown = [line.split()[0] for line in example.text.splitlines() if line[0] != "$"]
    assert [word for word in shown if word.lower() not in out.lower()] == []
    assert re.search(r"10\.0\.0\.1:8080 +drained .* operator .*new kernel", out)
    assert re.search(r"10\.0\.0\.2:8080 +(open|starting) ", out)


def test_the_number_of_workers_is_shown_as_the_page_shows(newcomer):
    newcomer.run("shifter topics apply shop.jobs:app")

    out = newcomer.run(block("docs/how-to/scaling.md", "shifter scale").commands)

    [group] = json.loads(out.splitlines()[-1])["groups"]
    assert (group["name"], group["desired"], group["reason"]) == ("default", 0, "idle")
    assert "nothing is due" in out


def test_a_fleet_is_planned_as_the_page_shows(newcomer, tmp_path):
    example = block("docs/how-to/planning.md", "--calibrate")
    measure, rate, recording = example.commands.splitlines()
    costs = {
        "job_cpu_s": 40e-6,
        "record_bytes": 200.0,
        "claim_cpu_s": 10e-6,
        "claim_bytes": 200.0,
        "claims_per_s": 20_000.0,
        "sync_cpu_s": 50e-6,
        "sync_process_cpu_s": 2e-6,
        "presence_cpu_s": 20e-6,
    }
    # A calibration takes half a minute, and is tested with its own servers.
    assert measure.split()[:3] == ["shifter", "plan", "--calibrate"]
    file = newcomer.folder / "calibration.json"
    file.write_text(json.dumps({"version": 1, "made_ms": 0, "costs": costs}))
    (newcomer.folder / "day.csv").write_text("".join(f"{n / 5}\n" for n in range(500)))

    assert "partitions_a_lane" in newcomer.run(rate)
    assert json.loads(newcomer.run(recording))["jobs"] == 500


def test_a_spike_is_played_as_the_page_shows(newcomer):
    """Workers come for what waits, and go; however slow the machine is."""
    example = block("docs/how-to/scaling.md", "examples.scaling")
    out = newcomer.folder / "play"
    commands = example.commands.replace("build/scaling", str(out))

    printed = newcomer.run(commands, at=ROOT).splitlines()

    shown = example.text.splitlines()[1:]
    names = ["offered", "workers", "wait_s"]
    assert [line.split()[0] for line in printed[:3]] == names
    assert [line.split()[0] for line in shown[:3]] == names
    counts = r"152 jobs, 0 lost, 0 doubled; 1 to [2-6] workers"
    assert re.fullmatch(counts, printed[3])
    assert re.fullmatch(counts, shown[3])
    play = json.loads((out / "play.json").read_text())
    assert (play["most_workers"] > 1, play["last_workers"]) == (True, 1)
    assert (out / "play.png").stat().st_size > 10_000


def test_a_million_jobs_a_second_are_planned_as_the_page_shows(newcomer):
    page = "docs/explanation/scale.md"
    [costs] = [found.text for found in blocks("json", page=page)]
    (newcomer.folder / "calibration.json").write_text(costs)

    examples = [
        block("docs/explanation/scale.md", "worker_cores"),
        block("docs/explanation/scale.md", "SYNC P99"),
        last := block("docs/explanation/scale.md", "WITH WORKERS"),
    ]
    for example in examples:
        found = [line.split() for line in newcomer.run(example.commands).splitlines()]
        shown = [line.split() for line in example.text.splitlines() if line[0] != "$"]
        # A row of the page may have the first columns only.
        assert [row for row in shown if not any(_begins(row, of) for of in found)] == []
    needs = json.loads(newcomer.run(f"{last.commands} --json"))["needs"]
    sizes = {need["name"]: need["value"] for need in needs}
    shorter = json.loads(newcomer.run(f"{last.commands} --outage 4h --json"))["needs"]
    disk = {need["name"]: need["value"] for need in shorter}["disk"]
    assert sizes["disk"] / disk == pytest.approx(6, rel=0.01)
    assert sizes["redis_memory"] == pytest.approx(105e9, rel=0.01)
    assert sizes["workers"] / sizes["namespaces"] == pytest.approx(2_001, abs=1)


def _begins(row: list[str], of: list[str]) -> bool:
    return [word.lower() for word in of[: len(row)]] == [word.lower() for word in row]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_manifests_are_copied_looked_at_and_applied_as_the_page_shows(newcomer):
    page = [
        block("docs/how-to/kubernetes.md", "docker build"),
        block("docs/how-to/kubernetes.md", "overlays/example"),
        block("docs/how-to/kubernetes.md", "create secret"),
        block("docs/how-to/kubernetes.md", "delete job"),
    ]
    shutil.copytree(ROOT / "deploy", newcomer.folder / "deploy")
    shutil.copy(ROOT / "Dockerfile", newcomer.folder)
    (newcomer.folder / "redis-url").write_text("redis://:x@redis:6379/0")

    out = newcomer.run(CLUSTER + "\n".join(found.commands for found in page))

    applied = (newcomer.folder / "applied.yaml").read_text()
    assert applied in out
    assert "secret/shifter-state" in out
    assert "kind: Deployment" in applied


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_workers_are_scaled_as_the_page_shows(newcomer):
    page = [
        block("docs/how-to/kubernetes.md", "overlays/shop-scaled"),
        block("docs/how-to/kubernetes.md", "--explain"),
        block("docs/how-to/kubernetes.md", "helm upgrade"),
    ]
    shutil.copytree(ROOT / "deploy", newcomer.folder / "deploy")
    newcomer.run("shifter topics apply workers.http_relay:app")

    out = newcomer.run(CLUSTER + "\n".join(found.commands for found in page))

    applied = (newcomer.folder / "applied.yaml").read_text()
    assert applied in out
    assert "kind: ScaledObject" in applied
    assert "nothing is due" in out


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_a_command_for_a_cluster_that_is_written_wrongly_is_found(newcomer):
    with pytest.raises(AssertionError, match="unknown flag"):
        newcomer.run(CLUSTER + "kubectl rollout status deployment/a --time-out 3m")


def test_dead_letters_are_looked_at_and_sent_back_as_the_page_shows(with_letters):
    out = with_letters.run(
        YES + block("docs/how-to/dead-letters.md", "dlt runs").commands
    )

    assert "relay is back" in out
    assert out.count("SMTPError") >= 2


def test_one_job_is_followed_as_the_page_shows(with_letters):
    out = with_letters.run(
        block("docs/how-to/job-history.md", "shifter job list").commands
    )

    assert out.count("SMTPError: relay is down") >= 50
    assert re.search(r"dead_lettered +1 +reason=attempts_exhausted", out)
    story = json.loads(out.splitlines()[-1])["story"]
    assert [entry["event"] for entry in story] == [
        *("submitted", "started", "failed", "dead_lettered"),
    ]


@pytest.mark.kafka
@pytest.mark.redis
def test_foreign_dead_letters_go_back_to_their_topic(newcomer, kafka, redis_url):
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    names = ("orders", "orders-dlt")
    for made in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        made.result(timeout=30)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    headers = [
        ("kafka_dlt-original-topic", b"orders"),
        ("kafka_dlt-exception-fqcn", b"java.lang.IllegalStateException"),
    ]
    producer.produce("orders-dlt", b"{}", headers=headers)
    producer.flush(30)
    newcomer.environ |= {
        "SHIFTER_LOG": kafka.url,
        "SHIFTER_STATE": redis_url,
        "SHIFTER_NAMESPACE": "shop",
    }
    commands = block("docs/how-to/dead-letters.md", "--target orders=orders").commands

    try:
        newcomer.run("shifter topics apply shop.jobs:app")
        newcomer.run(commands)
        sent = values(kafka.bootstrap, "orders")
    finally:
        ours = [
            name
            for name in admin.list_topics(timeout=30).topics
            if name.startswith("shop.")
        ]
        for gone in admin.delete_topics([*names, *ours]).values():
            gone.result(timeout=30)

    assert sent == [b"{}"]


def values(bootstrap: str, topic: str) -> list[bytes]:
    """What stands on a topic's only partition."""
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": "documents",
        "enable.partition.eof": True,
    }
    consumer, found = Consumer(settings), []
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        while (message := consumer.poll(30)) is not None and not message.error():
            found.append(message.value())
    finally:
        consumer.close()
    return found


def test_circuits_and_budgets_have_the_columns_of_the_page(newcomer):
    example = block("docs/explanation/fleet.md", "shifter circuit list")
    write_programs("docs/explanation/fleet.md", newcomer.folder)
    newcomer.environ["SHIFTER_NAMESPACE"] = "shop"

    with newcomer.running(CALL.format(page=program_name("docs/explanation/fleet.md"))):
        newcomer.run("until shifter circuit list | grep -q mailer; do sleep 0.2; done")
        out = newcomer.run(example.commands)

    printed = [line for line in example.text.splitlines() if not line.startswith("$ ")]
    headings = [printed[0], printed[2]]
    for heading, columns in zip(headings, (CIRCUITS, BUDGETS), strict=True):
        shown = [word.upper() for word in re.split(r"  +", heading)]
        assert shown == [column.upper() for column in columns]
    assert out.count("mailer") == 2


def test_windows_are_set_by_hand_as_the_page_shows(newcomer):
    newcomer.environ["SHIFTER_NAMESPACE"] = "shop"

    out = newcomer.run(block("docs/how-to/time-shift.md", "close-now mail").commands)

    assert "provider down" in out
    assert "new catalogue" in out


def test_relay_takes_the_job_of_its_page(newcomer):
    commands = block("workers/README.md", "shifter submit").commands

    job_id = newcomer.run(commands, at=ROOT, SHIFTER_NAMESPACE="relay").strip()

    assert re.fullmatch(r"[0-9a-f-]{36}", job_id)


def test_record_written_by_hand_is_a_job():
    example = block("schemas/README.md", "kcat")

    [envelope] = re.findall(r"shifter=(\{.*\})'", example.text)
    [payload] = re.findall(r"echo '(.*)'", example.text)

    job = msgspec.json.decode(envelope, type=EnvelopeV1)
    assert job.type == "send_receipt"
    assert set(json.loads(payload)) == {"order_id", "email"}


def test_record_written_in_javascript_has_the_same_fields():
    [example] = blocks("js", page="schemas/README.md")

    [fields] = re.findall(r"envelope = \{(.*)\}", example.text)

    known = set(EnvelopeV1.__struct_fields__)
    assert set(re.findall(r"(\w+):", fields)) <= known


# --- what stands in a line ------------------------------------------------------------

PAGES_WITH_COMMANDS = (
    "README.md",
    "CONTRIBUTING.md",
    *(page for page in PAGES if page.startswith("docs/")),
)


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
def test_commands_named_in_the_text_exist(page):
    text = (ROOT / page).read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")

    targets = set(re.findall(r"`make ([a-z-]+)", text))
    verbs = set(re.findall(r"`shifter ([a-z]+)", text))

    assert {name for name in targets if f"\n{name}:" not in makefile} == set()
    assert verbs <= set(every_verb())


def every_verb() -> list[str]:
    from shifter.cli.verbs import VERBS

    return list({verb.words[0] for verb in VERBS})


def test_every_verb_has_its_heading_in_the_reference():
    text = (ROOT / "docs/reference/commands.md").read_text("utf-8")

    listed = re.findall(r"^## shifter ([a-z]+)$", text, re.MULTILINE)

    assert sorted(listed) == sorted(every_verb())


SYNOPSIS = blocks("", page="docs/reference/cli.md")[0].text


@pytest.mark.parametrize("line", SYNOPSIS.replace("\n  ", "  ").splitlines())
def test_options_of_the_synopsis_are_the_verbs_own(line, capsys):
    from shifter.cli.entry import run

    for usage in re.split(r"(?=shifter )", line)[1:]:
        words = usage.split()[1:]
        path = [word for word in words[:2] if re.fullmatch(r"[a-z|-]+", word)]
        groups = {name for name in every_verb() if name == path[0]}
        choices = path[1].split("|") if len(path) > 1 else [""]
        options = set(re.findall(r"--[a-z-]+", usage))
        assert groups
        for verb in choices:
            run([*path[:1], *([verb] if verb else []), "--help"])
            said = capsys.readouterr().out
            assert {option for option in options if option not in said} == set()


def test_compose_line_of_the_page_is_what_the_compose_test_runs():
    text = (ROOT / "docs/how-to/kafka-and-redis.md").read_text("utf-8")
    run = (ROOT / "tests" / "compose" / "docker.py").read_text("utf-8")

    [line] = re.findall(r"`docker compose ([^`]+)`", text)

    words = ", ".join(f'"{word}"' for word in line.split())
    assert f"self.compose({words}" in run
