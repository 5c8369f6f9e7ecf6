"""When a job may start: hours, lanes, opportunistic work."""
