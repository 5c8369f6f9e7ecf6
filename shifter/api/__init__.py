"""The objects that users hold: app, job, dependency, lane."""
