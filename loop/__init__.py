"""When: configuration, rounds, phases, gate and accuracy log. The one room that knows all wings."""
