"""Protecting a dependency: circuit, retry budget, limit, rate, quality."""
