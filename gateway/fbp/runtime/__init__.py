"""The FBP runtime protocol, as the side of a runtime. No I/O."""
