"""Component libraries as data. No I/O."""
