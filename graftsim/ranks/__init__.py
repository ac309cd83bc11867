"""Runs over many ranks with the bits of one: the coordinates are cut, exact sums are added, nothing else is shared."""
