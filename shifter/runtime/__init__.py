"""Calls of handlers, threads of this package, and what a forked child renews."""
