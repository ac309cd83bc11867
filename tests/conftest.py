"""Settings of all tests."""

from hypothesis import settings

# The first call of a compiled function compiles it, and machines are busy: time tells nothing about an example.
settings.register_profile("graftsim", deadline=None)
settings.load_profile("graftsim")
