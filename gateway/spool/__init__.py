"""Messages on disk while their target is away."""
