"""microflo-gateway: microcontrollers as ordinary participants in cloud graphs."""

__version__ = "0.1.0"
