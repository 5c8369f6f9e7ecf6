"""What a fleet needs for a workload: sizes by formula, and their check."""
