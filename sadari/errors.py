"""The one exception that is meant for the person at the keyboard."""

from __future__ import annotations


class SadariError(Exception):
    """One clear line: the value, the rule, the remedy. The command line prints it alone and exits 2."""
