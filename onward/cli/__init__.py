"""The command line: `onward compare | train | evaluate | stream | list`, one file per command."""

from onward.cli.main import main as main
