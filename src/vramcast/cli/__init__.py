"""The command line: a thin front door that turns flags into a job and a forecast into text."""

from vramcast.cli.main import main

__all__ = ["main"]
