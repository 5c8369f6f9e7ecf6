"""``python -m docs_build``: write the pages that are made of code, and the dashboard."""

from __future__ import annotations

from pathlib import Path

from docs_build import commands, dashboard, metrics, states

ROOT = Path(__file__).parents[1]


def pages() -> dict[str, str]:
    """Paths in the repository, and the texts that belong there."""
    made = {
        "docs/reference/commands.md": commands.page(),
        "docs/reference/metrics.md": metrics.page(),
        "docs/explanation/states.md": states.page(),
        "deploy/grafana/shifter.json": dashboard.dashboard(),
    }
    pictures = states.pictures()
    return made | {f"docs/explanation/{name}": text for name, text in pictures.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        (ROOT / path).write_text(text, "utf-8")
