"""File and message formats: the one home of each foreign codec."""
