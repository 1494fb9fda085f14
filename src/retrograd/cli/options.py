"""The library's messages in the words of the command line: an argument ``lr`` of the library is the option ``--lr``."""

from __future__ import annotations

import re
from collections.abc import Collection

from retrograd.errors import InputError

__all__ = ["in_options"]

# Arguments whose option is not "--" and their own name.
_OTHER = {
    "targets": "--target",
    "stability": "--stable",
    "fh": "--horizon",
    "folder": "--out",
}
# Text in quotes is the user's own; a word may be followed by the value that the message gives it.
_WORD = re.compile(
    r"(?<!\w)'[^']*'|\"[^\"]*\"|(?<![\w.-])(?P<name>[a-z_]\w*)(?:=(?P<value>'[^']*'|[\w.]+))?(?![\w(=-])"
)


def in_options(error: InputError, options: Collection[str]) -> str:
    """Return the message of an error, with a command's options in place of the library's arguments.

    An argument is a word that the error declares, the first word of ``lr is 0``, and every word with a value.

    Args:
        error: from the library.
        options: those that the command has: an argument without an option stays as it is.

    >>> in_options(InputError("lr is 0, expected a number above 0"), ["--lr"])
    '--lr is 0, expected a number above 0'
    >>> in_options(InputError("row 7 is missing: set fill='linear'"), ["--fill"])
    'row 7 is missing: set --fill linear'
    """
    message = str(error)
    first = re.match(r"([a-z_]\w*) is ", message)
    declared = {*error.arguments, *([first[1]] if first else [])}

    def translated(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        option = _OTHER.get(name, "--" + str(name).replace("_", "-"))
        if name is None or option not in options or (value is None and name not in declared):
            return found[0]
        # A flag is given, not set.
        return option if value in (None, "True") else f"{option} {value.strip(chr(39))}"

    return _WORD.sub(translated, message)
