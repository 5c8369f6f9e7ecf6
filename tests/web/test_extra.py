"""Without the extra the command says what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["starlette", "uvicorn", "jinja2", "sse_starlette"])
def test_a_missing_part_of_the_extra_is_named_with_the_command_to_install_it(
    name, tmp_path
):
    (tmp_path / "shop.py").write_text(
        "from shifter import Shifter\napp = Shifter('shop')"
    )
    hide = f"import sys; sys.modules[{name!r}] = None; "
    call = "from shifter.cli.entry import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            hide + call,
            "web",
            "shop:app",
            "--listen",
            "127.0.0.1:0",
        ],
        env={
            **os.environ,
            "SHIFTER_LOG": f"sqlite://{tmp_path / 'f.db'}",
            "PYTHONPATH": str(ROOT),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 78
    assert 'pip install "shifter-queue[ui]"' in done.stderr
