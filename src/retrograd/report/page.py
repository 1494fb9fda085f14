"""Content as a page: one file that opens with no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrograd.files import write_whole
from retrograd.pictures.svg import svg
from retrograd.report.content import Content, Section

__all__ = ["render", "rendered", "write_page"]


def write_page(path: Path, content: Content) -> None:
    """Write a page to ``path``, whole: an existing file is replaced only when the new one is complete."""
    write_whole(path, render("page.html.j2", **_of(content)).encode())


def render(template: str, **values: Any) -> str:
    """Return a template of this folder, filled; every text is escaped that the template does not mark as safe."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("retrograd.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return str(environment.get_template(template).render(**values))


def rendered(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Return sections as ``sections.html.j2`` takes them: static pictures as SVG, an element for what is zoomed."""
    return [
        {
            "section": section,
            "svgs": [svg(figure, f"picture-{k}-{j}", section.heading) for j, figure in enumerate(section.figures)],
            "target": f"zoomed-{k}" if section.panels else "",
        }
        for k, section in enumerate(sections)
    ]


def _of(content: Content) -> dict[str, Any]:
    from bokeh.resources import Resources

    from retrograd.report.zoomed import item

    parts = rendered(content.sections)
    zoomed = [item(part["section"].panels, part["target"]) for part in parts if part["target"]]
    return {
        "content": content,
        "columns": list(dict.fromkeys(name for row in content.metrics.values() for name in row)),
        "parts": parts,
        # Inside a script element nothing may look like its end, or the start of a comment.
        "zoomed": json.dumps(zoomed, allow_nan=False).replace("<", "\\u003c"),
        "bokeh": "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw) if zoomed else "",
    }
