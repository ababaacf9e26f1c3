"""What a firmware contains: component maps, C++ metadata, self-description."""
