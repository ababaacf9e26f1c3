"""All paired boards of a gateway."""
