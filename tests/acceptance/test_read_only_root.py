"""A worker with a read-only root file system, as the Kubernetes manifests run it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from tests.acceptance.fleet import ROOT, TARGET

REFUSED = 99
"""Ends the script where this machine allows no mounts."""
SCRIPT = """
set -u
{{
  mount --make-rprivate / &&
  mount --bind {effects} /mnt &&
  mount -t tmpfs tmpfs /tmp &&
  mount -o remount,bind,ro "$(findmnt -n -o TARGET --target {root})"
}} || exit {refused}
if touch {root}/written 2> /dev/null; then rm {root}/written; exit {refused}; fi
exec {command}
"""


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.parametrize("fleet", ["servers"], indirect=True)
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_worker_writes_to_its_temporary_folder_alone(fleet, tmp_path):
    folder = tmp_path / "seen"
    folder.mkdir()
    (folder / "effects").touch()
    fleet.run("submit", TARGET, "note", "--json", '{"number": 1}')
    fleet.environment["EFFECTS"] = "/mnt/effects"
    command = [sys.executable, "-m", "shifter.cli", "work", TARGET, "--burst"]
    script = SCRIPT.format(
        effects=folder, root=ROOT, refused=REFUSED, command=shlex.join(command)
    )

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=fleet.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )

    if done.returncode == REFUSED or "unshare failed" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert (folder / "effects").read_text().split()[:2] == ["note", "1"]
