"""The command line, `ponas`. Each command is a module with `register(subparsers)`."""
