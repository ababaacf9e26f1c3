"""Who lets go of a message, and when."""
