"""The pages of a run: `report` writes them as one file, `serve` serves them live."""
