"""The command line, one command a file: ``retrograd fit | forecast | backtest | simulate | compare`` and others."""

from __future__ import annotations

import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from retrograd.cli.torchrun import follows

__all__ = ["main"]

COMMANDS = ("fit", "forecast", "backtest", "simulate", "compare", "explain", "grad", "check")
# What a message repeats of a user's file: this much of a text in quotes, or of a word that is no path.
_LONGEST, _LONGEST_LINE = 80, 1000
_PARTS = re.compile(r"'[^']*'|\"[^\"]*\"|\S+")


class _EndedError(BaseException):
    """The user pressed Ctrl-C, or the system asked to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a check failed, 2 the input cannot be used, 130 interrupted (Ctrl-C), 143 ended (SIGTERM).
    """
    code = 2
    try:
        with _ended_by_signals(), warnings.catch_warnings():
            # A library's warning says nothing to the user of a command; -W and PYTHONWARNINGS bring it back.
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            code = _run()
            sys.stdout.flush()
    except _EndedError as ended:
        _say("interrupted" if ended.number == signal.SIGINT else "ended by the system")
        code = 128 + ended.number
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "retrograd":
            raise
        _say(f"{error.name} is missing: pip install -e '.[cli]' in a checkout of retrograd brings it")
    except OSError as error:
        _say(f"{error.filename or 'standard output'} cannot be used: {error.strerror or error}")
    except SystemExit:  # how rich and click end where the reader of the output has gone
        _say("standard output cannot be used: Broken pipe")
    except MemoryError:
        _say("there is not enough memory for this: take fewer steps, a shorter horizon or smaller arrays")
    try:
        sys.stdout.flush()
    except OSError:  # the interpreter would try again when it ends
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(code)


def _run() -> int:
    """Run the command that was called, and return its exit code."""
    import typer

    from retrograd.cli.help import GroupedHelp
    from retrograd.core.backend import require_environment
    from retrograd.errors import InputError

    app = typer.Typer(
        name="retrograd",
        help="Exact gradients through time for linear recurrent networks.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    # The one that is called, alone: it imports no more than it uses.
    called = [name for name in COMMANDS if name in sys.argv[1:2]] or COMMANDS
    for name in called:
        app.command(name, cls=GroupedHelp)(getattr(import_module(f"retrograd.cli.{name}"), name))
    if sys.argv[1:] == ["--version"]:
        from retrograd.core.backend import package_version

        print(f"retrograd {package_version()}")
        return 0
    if len(called) == 1:
        app.callback()(lambda: None)  # with one command alone, typer would take its name for an argument
    try:
        require_environment()
        return int(app(standalone_mode=False) or 0)
    except InputError as error:
        from retrograd.cli.options import in_options

        command = typer.main.get_command(app).commands[sys.argv[1]]  # type: ignore[attr-defined]
        options = {option for parameter in command.params for option in parameter.opts}
        _say(in_options(error, options))
        return 2
    except typer.Abort:
        _say("interrupted")
        return 130
    except Exception as error:
        # click's, which typer may carry a copy of: an option or argument that there is not.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return 2
        _say(error.format_message())
        return 2


def _say(message: str) -> None:
    """Write one line to standard error: long texts of the user's files cut, what a terminal would obey written out."""
    line = _PARTS.sub(lambda found: _shortened(found[0]), " ".join(message.split()))
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    if len(line) > _LONGEST_LINE:
        line = line[: _LONGEST_LINE - 1] + "…"
    with suppress(OSError):
        print(f"retrograd: {line}".encode(sys.stderr.encoding or "utf-8", "backslashreplace").decode(
            sys.stderr.encoding or "utf-8"), file=sys.stderr)  # fmt: skip


def _shortened(part: str) -> str:
    quoted = part[0] in "'\"" and part[-1] == part[0]
    longest = _LONGEST + 2 * quoted
    if len(part) <= longest or (not quoted and os.sep in part):
        return part
    end = part[-1] if quoted else ""
    return part[: longest - 1 - len(end)] + "…" + end


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise :class:`_EndedError` on Ctrl-C and on SIGTERM: what is being written is cleared away, then one line.

    It reaches the caller where a library has made another error of it, too. Of several ranks the first one does so; the
    others have nothing to clear away or to say, and end at once, also where they wait for a message.
    """

    def end(number: int, frame: Any) -> None:
        raise _EndedError(number)

    def again(lost: Any) -> None:
        # Raised in a finaliser, where Python prints it and goes on.
        if isinstance(lost.exc_value, _EndedError):
            signal.raise_signal(lost.exc_value.number)
        else:
            unraisable(lost)

    before: dict[int, Any] = {}
    unraisable, sys.unraisablehook = sys.unraisablehook, again
    with suppress(ValueError):  # no main thread has no signals
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, signal.SIG_DFL if follows() else end)
    try:
        yield
    except Exception as error:
        ended = _cause(error)
        if ended is None:
            raise
        raise ended from None
    finally:
        sys.unraisablehook = unraisable
        for caught, handler in before.items():
            signal.signal(caught, handler)


def _cause(error: BaseException | None) -> _EndedError | None:
    """Return the signal behind an error: a C++ module that is being imported says "initialization failed" instead."""
    while error is not None and not isinstance(error, _EndedError):
        error = error.__cause__ or error.__context__
    return error
