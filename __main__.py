"""``python -m gatewright``."""

from .cli import main

main(prog_name="gatewright")
