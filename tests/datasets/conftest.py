"""One torch thread for every test here."""

from tests.threads import one_thread

__all__ = ["one_thread"]
