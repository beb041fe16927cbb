"""The entry point: finds the command, runs it, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

from ponas_node.cli.errors import USAGE, explain
from ponas_node.cli.output import clean

# In the order of the help. A command is the module of its name; it is loaded only when it is asked for.
COMMANDS = (
    "wallet", "node", "mine", "pool", "testnet", "inspect", "db", "publish", "dataset", "train", "replay", "audit",
    "export", "picture", "selftest",
)  # fmt: skip
INTERRUPTED = 130

_DESCRIPTION = "PoNAS: a blockchain whose mining is neural architecture search that anyone can check, bit for bit."
_EPILOG = """\
first steps:
  ponas wallet new                       make a wallet
  ponas testnet                          a whole network on this machine, to try things out
  ponas node --genesis FILE --data DIR --peer HOST:PORT
                                         join a network
  ponas mine --pool URL                  mine as a member of a pool

ponas COMMAND --help explains a command, with examples.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 for success, 1 for failure, 2 for wrong usage, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = build_parser(arguments).parse_args(arguments)
        if options.command is None:
            build_parser([]).print_help()
            return USAGE
        code = int(options.run(options))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left (`ponas ... | head`); Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as stop:  # argparse: 0 after --help, 2 after wrong usage, which it has printed
        return stop.code if isinstance(stop.code, int) else USAGE
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        print(f"ponas: {clean(str(told))}", file=sys.stderr)
        return told.exit_code
    return code


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; where `arguments` begin with a command, only that command is loaded."""
    parser = argparse.ArgumentParser(
        prog="ponas", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    present = [name for name in COMMANDS if importlib.util.find_spec(_module(name)) is not None]
    wanted = [name for name in present if arguments[:1] == [name]] or present
    for name in wanted:
        importlib.import_module(_module(name)).register(subparsers)
    return parser


def _module(command: str) -> str:
    return f"ponas_node.cli.{command}"


class _Version(argparse.Action):
    """Prints the installed version; looking it up is not worth the time on every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib import metadata

        try:
            print(f"ponas {metadata.version('ponas-node')}")
        except metadata.PackageNotFoundError:
            print("ponas, run from its source")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
