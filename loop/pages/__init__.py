"""A run in the browser: `report` writes it as one file, `serve` shows it as it goes on."""
