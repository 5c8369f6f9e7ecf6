"""Which endpoint of a dependency gets the next call. Pure."""
