"""The status document. No I/O."""
