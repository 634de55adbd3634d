"""Plans the memory of a run before anything loads, and records what was used."""
