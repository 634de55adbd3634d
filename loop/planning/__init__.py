"""How much memory a run needs, known before anything loads, and what it took."""
