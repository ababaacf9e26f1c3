"""One graph over boards, MQTT and AMQP participants."""
