"""What an MQTT topic may be called (MQTT 5.0, section 4.7)."""

from __future__ import annotations

MAX_TOPIC_BYTES = 65_535
"""A topic is sent behind a length of two bytes."""


def topic_problem(topic: str) -> str:
    """Why nothing can be published on this topic; empty if it can."""
    problem = text_problem(topic)
    if problem:
        return problem
    if "+" in topic or "#" in topic:
        return "a topic to publish on can't have the wildcards + and #"
    return ""


def text_problem(text: str) -> str:
    """Why this is no topic, with wildcards or without; empty if it may be one."""
    if not text:
        return "a topic can't be empty"
    if "\0" in text:
        return "a topic can't have the character U+0000"
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return "a topic must be encodable as UTF-8"
    return f"a topic can't be longer than {MAX_TOPIC_BYTES} bytes" if len(encoded) > MAX_TOPIC_BYTES else ""


def own_topic_problem(topic: str) -> str:
    """Why a port of a board can't have this topic; empty if it can."""
    if topic == "fbp" or topic.startswith(("gateway/", "$")):
        return "fbp, gateway/… and $… are not for ports"
    return topic_problem(topic)
