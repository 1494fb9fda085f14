"""A page that stays until the person at the terminal has seen it; with nobody there, it ends with its command."""

from __future__ import annotations

import os
import select
import sys
import termios

__all__ = ["keep_serving"]

# How long it takes to notice that the command was moved to the background.
GLANCE_SECONDS = 0.5


def keep_serving(url: str) -> None:
    """Wait for Enter or Ctrl-C, and say so in a line; return at once where there is no terminal to say it on."""
    try:
        if not (sys.stdin.isatty() and sys.stderr.isatty() and _in_front(sys.stdin.fileno())):
            return
        terminal = sys.stdin.fileno()
        print(f"The live view stays at {url} until Enter or Ctrl-C.", file=sys.stderr, flush=True)
        # Enter pressed while it trained was not meant for this.
        termios.tcflush(terminal, termios.TCIFLUSH)
        while _in_front(terminal):
            if select.select([terminal], [], [], GLANCE_SECONDS)[0] and _in_front(terminal):
                os.read(terminal, 1024)
                return
    except KeyboardInterrupt:
        print(file=sys.stderr)
    except (AttributeError, ValueError, OSError, termios.error):
        return  # standard input is closed, or its terminal is gone


def _in_front(terminal: int) -> bool:
    """Whether what is typed comes to this process: one in the background that reads is stopped by the system."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # no terminal that jobs take turns at
        return True
