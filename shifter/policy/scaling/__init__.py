"""How many workers help: demand of lanes, size of a group, and when it may change."""
