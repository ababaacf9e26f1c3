"""Generated headers, Intel HEX and the table of targets. No I/O."""
