"""The command line: ``retrograd fit | forecast | simulate | compare | explain | grad | check``, one command a file."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a check failed, 2 the input cannot be used, 130 interrupted."""
    try:
        import typer
    except ModuleNotFoundError as error:
        print(f"retrograd: {error.name} is missing: pip install 'retrograd[cli]'", file=sys.stderr)
        raise SystemExit(2) from None

    from retrograd.cli.check import check
    from retrograd.cli.compare import compare
    from retrograd.cli.explain import explain
    from retrograd.cli.fit import fit
    from retrograd.cli.forecast import forecast
    from retrograd.cli.grad import grad
    from retrograd.cli.options import in_options
    from retrograd.cli.simulate import simulate
    from retrograd.errors import InputError

    app = typer.Typer(
        name="retrograd",
        help="Exact gradients through time for linear recurrent networks.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for command in (fit, forecast, simulate, compare, explain, grad, check):
        app.command(command.__name__)(command)
    try:
        app()
    except InputError as error:
        command = typer.main.get_command(app).commands[sys.argv[1]]  # type: ignore[attr-defined]
        options = {option for parameter in command.params for option in parameter.opts}
        print(f"retrograd: {in_options(error, options)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("retrograd: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
