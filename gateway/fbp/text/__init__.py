"""Graphs as text: the .fbp language and the JSON format."""
