"""What the processes of a fleet decide together, as one process sees it."""
