// The numbers of the MicroFlo command protocol, wire generation W10: ten bytes a command, little endian.
// The host's end has the same in gateway/serial_link/protocol/commandformat.py.
#pragma once

#include <stdint.h>

namespace mf {

constexpr uint8_t kCommandSize = 10;  // request id, command, eight arguments
constexpr uint8_t kArguments = 8;
constexpr uint8_t kCheckedSize = kCommandSize + 1;  // with kChecksums

constexpr char kMagic[] = "microflo1";  // opens a conversation; the request id follows it
constexpr uint8_t kMagicSize = sizeof(kMagic) - 1;

enum Command : uint8_t {
    kClearNodes = 10,
    kCreateComponent = 11,
    kConnectNodes = 12,
    kSendPacket = 13,
    kEnd = 14,
    kConfigureDebug = 15,
    kSubscribeToPort = 16,
    kConnectSubgraphPort = 17,
    kPing = 18,
    kCommunicationOpen = 19,
    kStartNetwork = 20,
    kSetIoValue = 21,
    kStopNetwork = 22,
    kDisconnectNodes = 23,
    kRemoveNode = 24,
    kGetNetworkStatus = 25,

    kDescribe = 90,  // 90..93 and 122..125: our extension, see docs/firmware.md
    kExtend = 91,
    kGrant = 92,
    kCounters = 93,

    kNetworkStopped = 100,
    kNodeAdded = 101,
    kNodesConnected = 102,
    kPacketSent = 103,
    kNetworkStarted = 104,
    kDebugChanged = 105,
    kDebugMessage = 106,
    kPortSubscriptionChanged = 107,
    kPong = 109,
    kError = 110,
    kTransmissionEnded = 111,
    kSetIoValueCompleted = 112,
    kSendPacketDone = 114,
    kNodesCleared = 115,
    kNodesDisconnected = 116,
    kNodeRemoved = 117,
    kNetworkStatus = 118,

    kDescription = 122,
    kExtended = 123,
    kGranted = 124,
    kCounted = 125,
};

constexpr uint8_t kLargestStockCommand = 118;  // above it a stock board says "invalid", below "unknown"

enum PacketType : uint8_t {
    kVoid = 3,
    kByte = 4,
    kBoolean = 6,
    kInteger = 7,
    kFloat = 8,
    kBracketStart = 9,
    kBracketEnd = 10,
    kErrorPacket = 11,
};

enum Level : uint8_t { kLevelError = 1, kLevelInfo = 2, kLevelDetailed = 3, kLevelVeryDetailed = 4 };

// What a DebugMessage, and the code of an Error answer, speaks of.
enum Point : uint8_t {
    kNoPoint = 0,
    kProgramStart = 1,
    kComponentCreateStart = 2,
    kComponentCreateEnd = 3,
    kParserInvalidState = 4,
    kParseCommand = 7,
    kParserUnknownCommand = 9,
    kParserInvalidCommand = 10,
    kParserUnknownPacketType = 11,
    kNetworkConnectInvalidNodes = 12,
    kConnectNodesStart = 13,
    kAddNodeInvalidInstance = 15,
    kMagicMismatch = 18,
    kSubGraphConnectNotASubgraph = 20,
    kSubGraphConnectInvalidNodes = 21,
    kSendMessageInvalidNode = 23,
    kAddNodeInvalidParent = 24,
    kSubscribePortInvalidNode = 25,
    kIoOperationNotImplemented = 26,
    kIoFailure = 28,
    kMagicMatched = 31,
    kEndOfTransmission = 32,
    kUnknownIoType = 34,
    kSubscribePortInvalidPort = 35,
    kRemoveNodeInvalidInstance = 36,

    kQueueFull = 80,  // 80..83 are ours: stock firmware loses or damages something instead
    kOutOfRoom = 81,
    kInvalidPort = 82,
    kBadChecksum = 83,
};

enum IoType : uint8_t { kIoAnalog = 1, kIoDigital = 2 };

// Bits of kExtend. The last two turn nothing on: they say that this firmware takes floats, and has pages of counters.
enum Extension : uint8_t { kSequenceNumbers = 1, kEventCredit = 2, kChecksums = 4, kFloats = 8, kCounterPages = 16 };
constexpr uint8_t kKnownExtensions = kSequenceNumbers | kEventCredit | kChecksums | kFloats | kCounterPages;

// CRC-8 (polynomial 0x07, start 0xFF) of a command: the byte behind it, with kChecksums.
constexpr uint8_t kEmptyChecksum = 0xff;

inline uint8_t checksum_with(uint8_t sum, uint8_t byte) {
    sum = static_cast<uint8_t>(sum ^ byte);
    for (uint8_t half = 0; half < 2; half++) {  // four bits at once: h x^8 is h (x^2 + x + 1)
        const uint8_t h = sum >> 4;
        sum = static_cast<uint8_t>(sum << 4 ^ h ^ h << 1 ^ h << 2);
    }
    return sum;
}

inline uint8_t command_checksum(const uint8_t *command) {
    uint8_t sum = kEmptyChecksum;
    for (uint8_t i = 0; i < kCommandSize; i++) sum = checksum_with(sum, command[i]);
    return sum;
}

}  // namespace mf
