"""The specification as data: machines, schemas, dialects, golden trajectories, rules. Nothing here is code."""
