"""The decision whether a job runs now, is deferred, degraded or shed."""
