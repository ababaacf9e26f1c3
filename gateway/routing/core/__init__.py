"""The router: at-least-once delivery as a state machine. No I/O, no clock."""
