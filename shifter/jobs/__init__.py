"""What a job declares and what its handler sees: options, windows, cron, context."""
