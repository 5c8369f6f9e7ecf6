"""Runs a fleet under faults, writes down what happens, and judges it afterwards."""
