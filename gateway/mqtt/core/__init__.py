"""The parts of the MQTT transport that do no I/O."""
