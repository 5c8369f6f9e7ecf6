"""Calls of handlers, threads, garbage collection, and what a forked child renews."""
