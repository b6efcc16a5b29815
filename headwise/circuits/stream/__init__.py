"""The residual stream as a graph: who writes to it, who reads from it, and runs in which they read something else."""
