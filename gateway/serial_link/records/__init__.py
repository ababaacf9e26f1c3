"""What the gateway stores of each paired board."""
