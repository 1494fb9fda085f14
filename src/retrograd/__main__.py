"""``python -m retrograd``: the command line where its script is not on the path."""

from retrograd.cli import main

main()
