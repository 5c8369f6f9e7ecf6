"""``python -m docs_build``: write the pages and the files that are made of code."""

from __future__ import annotations

from pathlib import Path

from docs_build import alerts, commands, dashboard, metrics, states

ROOT = Path(__file__).parents[1]


def pages() -> dict[str, str]:
    """Paths in the repository, and the texts that belong there."""
    made = {
        "docs/reference/commands.md": commands.page(),
        "docs/reference/metrics.md": metrics.page(),
        "docs/explanation/states.md": states.page(),
        "deploy/grafana/shifter.json": dashboard.dashboard(),
        "deploy/kubernetes/components/monitoring/rules.yaml": alerts.resource(),
    }
    pictures = states.pictures()
    return made | {f"docs/explanation/{name}": text for name, text in pictures.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        (ROOT / path).write_text(text, "utf-8")
