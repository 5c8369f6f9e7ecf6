"""What builds the pages of docs/ that are made of code, and checks the others."""
