"""`--help`: a command's options in groups, as plain text."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

__all__ = ["GroupedHelp"]


class GroupedHelp(TyperCommand):
    """A command whose help groups options by their ``rich_help_panel``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then each group of options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                default = "Arguments" if parameter.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or default, []).append(record)
        for title, rows in sorted(groups.items(), key=lambda group: group[0] not in ("Arguments", "Options")):
            with formatter.section(title):
                formatter.write_dl(rows)
