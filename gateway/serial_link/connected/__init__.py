"""One connection to one board."""
