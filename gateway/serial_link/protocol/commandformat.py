"""The numbers of the MicroFlo command protocol (reference: microflo-protocol, sections 4 and 5)."""

from __future__ import annotations

from enum import IntEnum


class CommandKind(IntEnum):
    """Command ids. 10..25 go to the board (except 19), 19 and 100..118 come from it.

    90..93 and 122..125 are our own extension (docs/firmware.md): stock firmware calls them unknown, and does nothing.
    """

    CLEAR_NODES = 10
    CREATE_COMPONENT = 11
    CONNECT_NODES = 12
    SEND_PACKET = 13
    END = 14
    CONFIGURE_DEBUG = 15
    SUBSCRIBE_TO_PORT = 16
    CONNECT_SUBGRAPH_PORT = 17
    PING = 18
    COMMUNICATION_OPEN = 19
    START_NETWORK = 20
    SET_IO_VALUE = 21
    STOP_NETWORK = 22
    DISCONNECT_NODES = 23
    REMOVE_NODE = 24
    GET_NETWORK_STATUS = 25

    NETWORK_STOPPED = 100
    NODE_ADDED = 101
    NODES_CONNECTED = 102
    PACKET_SENT = 103
    NETWORK_STARTED = 104
    DEBUG_CHANGED = 105
    DEBUG_MESSAGE = 106
    PORT_SUBSCRIPTION_CHANGED = 107
    SUBGRAPH_PORT_CONNECTED = 108
    PONG = 109
    ERROR = 110
    TRANSMISSION_ENDED = 111
    SET_IO_VALUE_COMPLETED = 112
    IO_VALUE_CHANGED = 113
    SEND_PACKET_DONE = 114
    NODES_CLEARED = 115
    NODES_DISCONNECTED = 116
    NODE_REMOVED = 117
    NETWORK_STATUS = 118

    DESCRIBE = 90
    EXTEND = 91
    GRANT = 92
    COUNTERS = 93

    DESCRIPTION = 122
    EXTENDED = 123
    GRANTED = 124
    COUNTED = 125


REPLY_OF = {
    CommandKind.CLEAR_NODES: CommandKind.NODES_CLEARED,
    CommandKind.CREATE_COMPONENT: CommandKind.NODE_ADDED,
    CommandKind.CONNECT_NODES: CommandKind.NODES_CONNECTED,
    CommandKind.SEND_PACKET: CommandKind.SEND_PACKET_DONE,
    CommandKind.END: CommandKind.TRANSMISSION_ENDED,
    CommandKind.CONFIGURE_DEBUG: CommandKind.DEBUG_CHANGED,
    CommandKind.SUBSCRIBE_TO_PORT: CommandKind.PORT_SUBSCRIPTION_CHANGED,
    CommandKind.CONNECT_SUBGRAPH_PORT: CommandKind.SUBGRAPH_PORT_CONNECTED,
    CommandKind.PING: CommandKind.PONG,
    CommandKind.START_NETWORK: CommandKind.NETWORK_STARTED,
    CommandKind.STOP_NETWORK: CommandKind.NETWORK_STOPPED,
    CommandKind.DISCONNECT_NODES: CommandKind.NODES_DISCONNECTED,
    CommandKind.REMOVE_NODE: CommandKind.NODE_REMOVED,
    CommandKind.GET_NETWORK_STATUS: CommandKind.NETWORK_STATUS,
}
"""The good answer to each request. SET_IO_VALUE has none on stock firmware (section 5.1)."""

EXTENSION_REPLY_OF = {
    CommandKind.DESCRIBE: CommandKind.DESCRIPTION,
    CommandKind.EXTEND: CommandKind.EXTENDED,
    CommandKind.GRANT: CommandKind.GRANTED,
    CommandKind.COUNTERS: CommandKind.COUNTED,
}
"""The same for our extension. Stock firmware reports a debug point instead, or says nothing."""

REPLIES = {**REPLY_OF, **EXTENSION_REPLY_OF}
"""The good answer to every request that has one."""

EVENTS = frozenset({CommandKind.PACKET_SENT, CommandKind.DEBUG_MESSAGE, CommandKind.IO_VALUE_CHANGED})
"""What a board sends by itself, with request id 0 (section 2.1)."""

FROM_BOARD = frozenset({CommandKind.COMMUNICATION_OPEN, *(k for k in CommandKind if k >= CommandKind.NETWORK_STOPPED)})
"""Every id that may stand in what a board sends; any other means lost alignment (section 9.3)."""


class ErrorCode(IntEnum):
    """Codes of an ERROR packet (section 4.1). A code above 7 passes through a board unchanged."""

    OTHER = 0
    COMPONENT_BUG = 1
    UNSUPPORTED_TYPE = 2
    UNSUPPORTED_VALUE = 3
    INVALID_INPUT = 4
    OPERATION_FAILED = 5
    OPERATION_TIMEOUT = 6
    UNKNOWN = 7


class DebugLevel(IntEnum):
    """How talkative a board is (section 4.3). VERY_DETAILED floods a serial line."""

    INVALID = 0
    ERROR = 1
    INFO = 2
    DETAILED = 3
    VERY_DETAILED = 4
    MAX = 255


class DebugPoint(IntEnum):
    """What a DEBUG_MESSAGE, and the code of a W10 ERROR answer, speaks of (section 4.4)."""

    PROGRAM_START = 1
    COMPONENT_CREATE_START = 2
    COMPONENT_CREATE_END = 3
    PARSER_INVALID_STATE = 4
    PARSER_UNKNOWN_STATE = 5
    PARSE_HEADER = 6
    PARSE_COMMAND = 7
    PARSE_BYTE = 8
    PARSER_UNKNOWN_COMMAND = 9
    PARSER_INVALID_COMMAND = 10
    PARSER_UNKNOWN_PACKET_TYPE = 11
    NETWORK_CONNECT_INVALID_NODES = 12
    CONNECT_NODES_START = 13
    READ_BYTE = 14
    ADD_NODE_INVALID_INSTANCE = 15
    COMPONENT_SEND_INVALID_PORT = 16
    PARSE_LOOK_FOR_HEADER = 17
    MAGIC_MISMATCH = 18
    NOT_IMPLEMENTED = 19
    SUBGRAPH_CONNECT_NOT_A_SUBGRAPH = 20
    SUBGRAPH_CONNECT_INVALID_NODES = 21
    SUBGRAPH_RECEIVED_NORMAL_MESSAGE = 22
    SEND_MESSAGE_INVALID_NODE = 23
    ADD_NODE_INVALID_PARENT = 24
    SUBSCRIBE_PORT_INVALID_NODE = 25
    IO_OPERATION_NOT_IMPLEMENTED = 26
    INVALID_COMPONENT_USED = 27
    IO_FAILURE = 28
    DELIVER_MESSAGES_INVALID_MESSAGE_ID = 29
    NOT_SUPPORTED = 30
    MAGIC_MATCHED = 31
    END_OF_TRANSMISSION = 32
    IO_INVALID_VALUE_SET = 33
    UNKNOWN_IO_TYPE = 34
    SUBSCRIBE_PORT_INVALID_PORT = 35
    REMOVE_NODE_INVALID_INSTANCE = 36
    REMOVE_NODE_INVALID_PARENT = 37
    QUEUE_FULL = 80  # 80..83: our own firmware's (docs/firmware.md)
    OUT_OF_ROOM = 81
    INVALID_PORT = 82
    BAD_CHECKSUM = 83
    USER_1 = 100
    USER_2 = 101
    USER_3 = 102
    USER_4 = 103
    USER_5 = 104
    USER_6 = 105
    MAX = 255


def point_text(code: int) -> str:
    """The name of a debug point in plain words, or the number where it has none."""
    try:
        return DebugPoint(code).name.lower().replace("_", " ")
    except ValueError:
        return f"unknown point {code}"
