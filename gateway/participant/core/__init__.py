"""Definitions of participants and their wiring. No I/O."""
