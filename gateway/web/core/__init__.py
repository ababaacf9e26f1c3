"""Metrics text and origin checks. No I/O."""
