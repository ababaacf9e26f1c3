"""MQTT topic filters: what is allowed in them, and which topics one matches (MQTT 5.0, section 4.7)."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model.topic import text_problem


def filter_problem(topic_filter: str) -> str:
    """Why this is no topic filter; empty if it is one."""
    problem = text_problem(topic_filter)
    if problem:
        return problem
    levels = topic_filter.split("/")
    for at, level in enumerate(levels):
        if "#" in level and (level != "#" or at != len(levels) - 1):
            return "the wildcard # stands alone, as the last level"
        if "+" in level and level != "+":
            return "the wildcard + stands alone in its level"
    return ""


def has_wildcards(topic_filter: str) -> bool:
    """Whether this filter may match more than one topic."""
    return "+" in topic_filter or "#" in topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a valid filter matches a topic. Wildcards at the front don't match topics that begin with ``$``."""
    if topic_filter == topic:
        return True
    levels = topic.split("/")
    wanted = topic_filter.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    return _levels_match(wanted, levels)


def _levels_match(wanted: Sequence[str], levels: Sequence[str]) -> bool:
    for at, level in enumerate(wanted):
        if level == "#":
            return True  # also the parent level itself: "a/#" matches "a"
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)
