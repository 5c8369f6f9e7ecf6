"""F47: ten times what a service can do, for a minute."""
