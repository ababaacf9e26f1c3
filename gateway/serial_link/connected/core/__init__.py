"""The steps that bring a silent board back. No I/O, no clock."""
