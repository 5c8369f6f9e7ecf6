"""Starting worker processes, watching them and ending them in order."""
