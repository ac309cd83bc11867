"""Golden trajectories, and the check of optimizers that others wrote against the reference."""
