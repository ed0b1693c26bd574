"""Ways to a bearer token, and where it is kept."""
