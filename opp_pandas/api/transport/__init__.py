"""One request to one service: bounded, retried where that is safe, and never sent elsewhere."""
