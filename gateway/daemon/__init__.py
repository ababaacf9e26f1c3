"""The running gateway: its objects, its tasks, its control socket and its state directory."""
