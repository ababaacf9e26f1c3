"""MQTT as a transport, and the broker that may come with the gateway."""
