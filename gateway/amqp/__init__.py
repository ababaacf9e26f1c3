"""AMQP 0-9-1 as a transport, with MsgFlo's topology."""
