"""Lets pages link to the examples' source as it lies in the repository: ../examples/NAME.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

EXAMPLES = Path(__file__).parent.parent / "examples"


def on_files(files: Any, config: Any) -> Any:
    """Bring the examples into the site."""
    for path in sorted(EXAMPLES.glob("*.py")):
        files.append(File.generated(config, f"examples/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links from where the examples are in the repository to where they are in the site."""
    return markdown.replace("](../examples/", "](examples/")
