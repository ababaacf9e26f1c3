"""Serial ports, local and over TCP: open, watch, lock, identify."""
