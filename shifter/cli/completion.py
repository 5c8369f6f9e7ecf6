"""`shifter completion`: verbs and options for the completion of a shell."""

from __future__ import annotations

from typing import Literal, TypeAlias

from shifter.cli.output import write_line

Shell: TypeAlias = Literal["bash", "zsh", "fish"]


def completion(shell: Shell, /) -> None:
    """Print the script that completes this command in a shell.

    Example: shifter completion bash

    Args:
        shell: The shell that reads the script.
    """
    # Both import this module: the table names it, and the parser calls it.
    from shifter.cli.entry import build  # noqa: PLC0415
    from shifter.cli.verbs import VERBS  # noqa: PLC0415

    app = build({verb.words for verb in VERBS})
    write_line(app.generate_completion(prog_name="shifter", shell=shell).rstrip())
