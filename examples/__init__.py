"""Examples that use the project's parts from Python."""
