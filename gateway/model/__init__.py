"""The gateway's nouns: frozen data that every layer may hold."""
