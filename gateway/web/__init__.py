"""HTTP and WebSocket: FBP runtimes, health, metrics."""
