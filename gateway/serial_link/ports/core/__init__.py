"""The identity of a board from what its port tells. No I/O."""
