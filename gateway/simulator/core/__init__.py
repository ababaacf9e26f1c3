"""The simulated board itself. No I/O, no clock."""
