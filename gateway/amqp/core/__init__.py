"""The parts of the AMQP transport that do no I/O."""
