"""The loop compared with what a user could write or use in its place: `python -m benchmarks.peers`."""
