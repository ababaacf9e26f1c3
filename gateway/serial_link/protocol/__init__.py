"""The MicroFlo command protocol from the host side. No I/O, no clock."""
