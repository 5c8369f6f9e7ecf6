"""The fenced blocks of the documents, and the programs that they make.

A ``python`` block whose first line is a comment with a file's name (``# shop/jobs.py``)
is that file. All other ``python`` blocks of a page are one program, in order; a block
that awaits stands in a coroutine of its own, ``block_<line>``.
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "workers/*.md", "schemas/*.md")
    for path in ROOT.glob(pattern)
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# ([\w/]+\.py)\n")
_AWAITS = (ast.Await, ast.AsyncWith, ast.AsyncFor)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        page: Path of its page in the repository.
        line: Of its first line, from 1.
        language: What stands behind the fence; empty for none.
        text: Its lines.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str | None:
        """The file that it is, if its first line says so."""
        match = _NAME.match(self.text)
        return None if match is None else match[1]

    @property
    def commands(self) -> str:
        """What a reader types: lines after a prompt, or all of a block without one."""
        lines = self.text.splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return "\n".join(lines)


def blocks(*languages: str, page: str | None = None) -> list[Block]:
    """All blocks of these languages, or of all."""
    return [
        Block(path, text.count("\n", 0, match.start()) + 2, match[1], match[2])
        for path in (PAGES if page is None else [page])
        for text in [(ROOT / path).read_text("utf-8")]
        for match in _FENCE.finditer(text)
        if not languages or match[1] in languages
    ]


def pages_with_python() -> list[str]:
    """Pages that have a ``python`` block."""
    return sorted({block.page for block in blocks("python")})


def program_name(page: str) -> str:
    """The module that the unnamed blocks of a page make."""
    return f"page_{re.sub(r'[^a-z]', '_', page.removesuffix('.md').lower())}"


def write_programs(page: str, folder: Path) -> list[Path]:
    """Write the files of a page; the program of its unnamed blocks, if any, is last."""
    written, unnamed = [], []
    for block in blocks("python", page=page):
        if block.name is None:
            unnamed.append(block)
            continue
        path = folder / block.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, "utf-8")
        written.append(path)
    if unnamed:
        path = folder / f"{program_name(page)}.py"
        path.write_text("\n\n".join(map(_module_text, unnamed)), "utf-8")
        written.append(path)
    return written


def _module_text(block: Block) -> str:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    tree = compile(block.text, block.page, "exec", flags)
    awaiting = [node.lineno for node in tree.body if _awaits(node)]
    if not awaiting:
        return block.text
    # What stands before the first of them is the module's, for the blocks after it.
    lines = block.text.splitlines(keepends=True)
    first = awaiting[0] - 1
    head = f"async def block_{block.line}() -> None:\n"
    rest = textwrap.indent("".join(lines[first:]), "    ")
    return "".join(lines[:first]) + "\n\n" + head + rest


def _awaits(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    inner = map(_awaits, ast.iter_child_nodes(node))
    return isinstance(node, _AWAITS) or any(inner)
