"""A MicroFlo board in Python, on a pty. Shares the codec with the host, and nothing else."""
