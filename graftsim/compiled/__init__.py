"""The compiled engine: generated loops, exact sums on the way, the bits of the reference."""
