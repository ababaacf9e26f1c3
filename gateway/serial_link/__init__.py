"""The MicroFlo link: a board on a serial line as a transport of packets."""
