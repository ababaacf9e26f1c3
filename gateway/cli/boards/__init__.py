"""Commands about boards and their ports."""
