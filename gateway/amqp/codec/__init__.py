"""AMQP 0-9-1 frames, methods, properties and tables as bytes. No I/O."""
