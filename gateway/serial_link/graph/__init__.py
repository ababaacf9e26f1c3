"""A graph on a board: upload, live changes, node ids. No I/O."""
