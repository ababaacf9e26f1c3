#include "board.h"

#include "backend.h"
#include "components.h"
#include "description.h"
#include "flash.h"
#include "generated.h"

namespace mf {

void Board::start(uint32_t now_ms) {
    voice_.silent = true;
    const uint8_t *const end = kEmbeddedGraph + kEmbeddedGraphSize;
    for (const uint8_t *at = kEmbeddedGraph; at != end; at++) receive(flash_byte(at), now_ms);
    own_graph_ = kEmbeddedGraphSize != 0;
    parser_.close();
    voice_.silent = false;
    // For a host that was in a conversation with this board: it is over, and nothing of it is left.
    const uint8_t told[] = {kLevelInfo, kProgramStart};
    voice_.answer(0, kDebugMessage, told, sizeof told);
}

void Board::receive(uint8_t byte, uint32_t now_ms) {
    voice_.host_is_silent = false;
    if (parser_.is_open()) voice_.debug(kLevelVeryDetailed, kParseCommand);
    switch (parser_.feed(byte, now_ms)) {
        case Parsed::kNothing:
            return;
        case Parsed::kOtherMagic:
            return voice_.debug(kLevelError, kMagicMismatch);
        case Parsed::kDamaged:
            bad_checksums_++;
            return voice_.debug(kLevelError, kBadChecksum);
        case Parsed::kOpening:
            opened(parser_.request_id());
            break;
        case Parsed::kCommand:
            execute(parser_.command());
            break;
    }
    network_.tick(now_ms);
}

void Board::turn(uint32_t now_ms) {
    if (parser_.gave_up(now_ms)) {
        half_commands_++;
        voice_.debug(kLevelError, kParserInvalidState);
    }
    voice_.host_is_silent = now_ms - parser_.last_ms() >= kSilentHostMs;
    network_.tick(now_ms);
}

void Board::opened(uint8_t request_id) {
    voice_.extensions = 0;  // another host may be there now, one that knows of none
    voice_.debug(kLevelDetailed, kMagicMatched);
    voice_.answer(request_id, kCommunicationOpen);
}

// An Error answer where stock firmware would be silent, report without an answer, or be damaged.
void Board::execute(const uint8_t *command) {
    const Point problem = obey(command);
    if (problem == kNoPoint) return;
    if (voice_.silent && start_problem_ == kNoPoint) start_problem_ = problem;
    const uint8_t code = problem;
    voice_.answer(command[0], kError, &code, 1);
}

// Does it and answers, or says what is wrong with it.
Point Board::obey(const uint8_t *command) {
    const uint8_t id = command[0];
    const uint8_t *arguments = command + 2;
    Point problem = kNoPoint;
    uint8_t reply = 0;
    uint8_t echoed = 0;  // how many of the arguments come back
    switch (command[1]) {
        case kPing:
            reply = kPong;
            echoed = kArguments;
            break;
        case kClearNodes:
            own_graph_ = false;
            network_.clear();
            reply = kNodesCleared;
            break;
        case kCreateComponent:
            return create(command);
        case kConnectNodes:
        case kDisconnectNodes:
            return connect(command);
        case kSendPacket:
            return send_packet(command);
        case kSubscribeToPort: {
            problem = network_.subscribe(arguments[0], arguments[1], arguments[2] != 0);
            const uint8_t told[] = {arguments[0], arguments[1], arguments[2] != 0};
            if (problem == kNoPoint) voice_.answer(id, kPortSubscriptionChanged, told, sizeof told);
            return problem;
        }
        case kRemoveNode:
            problem = network_.remove(arguments[0]);
            own_graph_ = own_graph_ && problem != kNoPoint;
            reply = kNodeRemoved;
            echoed = 1;
            break;
        case kConfigureDebug:
            voice_.level = arguments[0];
            reply = kDebugChanged;
            echoed = 1;
            break;
        case kStartNetwork:
            network_.running = true;
            reply = kNetworkStarted;
            break;
        case kStopNetwork:
            network_.running = false;
            reply = kNetworkStopped;
            break;
        case kGetNetworkStatus: {
            const uint8_t running = network_.running;
            voice_.answer(id, kNetworkStatus, &running, 1);
            return kNoPoint;
        }
        case kEnd:
            voice_.debug(kLevelDetailed, kEndOfTransmission);
            parser_.close();
            reply = kTransmissionEnded;
            break;
        case kConnectSubgraphPort:
            return subgraph(arguments);
        case kSetIoValue:
            return set_io_value(command);
        case kDescribe:
            describe(command);
            return kNoPoint;
        case kExtend:
            extend(command);
            return kNoPoint;
        case kGrant:
            grant(command);
            return kNoPoint;
        case kCounters:
            counters(command);
            return kNoPoint;
        default:
            return command[1] > kLargestStockCommand ? kParserInvalidCommand : kParserUnknownCommand;
    }
    if (problem == kNoPoint) voice_.answer(id, reply, arguments, echoed);
    return problem;
}

Point Board::create(const uint8_t *command) {
    uint8_t node;
    voice_.debug(kLevelDetailed, kComponentCreateStart);
    const Point problem = network_.create(command[2], command[3], &node);
    if (problem != kNoPoint) return problem;
    own_graph_ = false;
    voice_.debug(kLevelDetailed, kComponentCreateEnd);
    const uint8_t told[] = {command[2], node, command[3]};
    voice_.answer(command[0], kNodeAdded, told, sizeof told);
    return kNoPoint;
}

Point Board::connect(const uint8_t *command) {
    const bool on = command[1] == kConnectNodes;
    const uint8_t source = command[2], target = command[3], source_port = command[4], target_port = command[5];
    if (on) voice_.debug(kLevelDetailed, kConnectNodesStart);
    const Point problem = on ? network_.connect(source, source_port, target, target_port)
                             : network_.disconnect(source, source_port, target, target_port);
    if (problem != kNoPoint) return problem;
    own_graph_ = false;
    const uint8_t told[] = {source, source_port, target, target_port};  // another order than in the request
    voice_.answer(command[0], on ? kNodesConnected : kNodesDisconnected, told, sizeof told);
    return kNoPoint;
}

Point Board::send_packet(const uint8_t *command) {
    Packet packet;
    if (!unpack(command[4], command + 5, &packet)) return kParserUnknownPacketType;
    const Point problem = network_.push(command[2], command[3], packet);
    if (problem == kQueueFull) refused_sends_++;
    const uint8_t room = voice_.extensions & kEventCredit ? network_.room() : 0;
    const uint8_t told[] = {command[2], command[3], command[4], room};
    if (problem == kNoPoint) voice_.answer(command[0], kSendPacketDone, told, sizeof told);
    return problem;
}

// There are no subgraphs: hosts flatten them.
Point Board::subgraph(const uint8_t *arguments) const {
    const bool both = network_.exists(arguments[1]) && network_.exists(arguments[3]);
    return both ? kSubGraphConnectNotASubgraph : kSubGraphConnectInvalidNodes;
}

Point Board::set_io_value(const uint8_t *command) {
    const uint8_t type = command[2];
    Packet value;
    unpack(kInteger, command + 4, &value);
    if (type != kIoAnalog && type != kIoDigital) return kUnknownIoType;
    if (!backend::simulate_input(command[3], as_integer(value))) return kIoOperationNotImplemented;
    voice_.answer(command[0], kSetIoValueCompleted, command + 2, 6);
    return kNoPoint;
}

// -- our extension ----------------------------------------------------------------------------------------------------

void Board::describe(const uint8_t *command) {
    const uint16_t offset = static_cast<uint16_t>(command[2] | command[3] << 8);
    uint8_t told[kArguments] = {};
    told[0] = read_description(offset, own_graph_ ? kOwnGraph : 0, start_problem_, told + 1, kArguments - 1);
    voice_.answer(command[0], kDescription, told, sizeof told);
}

void Board::extend(const uint8_t *command) {
    const uint8_t wanted = command[2] & kKnownExtensions;
    const uint8_t told[] = {wanted, kKnownExtensions};
    voice_.answer(command[0], kExtended, told, sizeof told);  // still as before: what it says begins behind it
    voice_.extensions = wanted;
    voice_.credit = 0;
    parser_.check(wanted & kChecksums);
}

void Board::grant(const uint8_t *command) {
    const uint32_t sum = static_cast<uint32_t>(voice_.credit) + (command[2] | static_cast<uint32_t>(command[3]) << 8);
    voice_.credit = sum > UINT16_MAX ? UINT16_MAX : static_cast<uint16_t>(sum);
    const uint8_t told[] = {static_cast<uint8_t>(voice_.credit), static_cast<uint8_t>(voice_.credit >> 8), network_.room()};
    voice_.answer(command[0], kGranted, told, sizeof told);
}

void Board::counters(const uint8_t *command) {
    uint8_t told[kArguments] = {};
    if (command[2] == 0) count_packets(told);
    if (command[2] == 1) count_damage(told);
    voice_.answer(command[0], kCounted, told, sizeof told);
}

void Board::count_packets(uint8_t *told) const {
    const uint32_t reported = network_.reported();
    const uint16_t lost[] = {network_.lost(), backend::lost_input()};
    for (uint8_t i = 0; i < 4; i++) told[i] = static_cast<uint8_t>(reported >> (8 * i));
    for (uint8_t i = 0; i < 4; i++) told[4 + i] = static_cast<uint8_t>(lost[i / 2] >> (8 * (i % 2)));
}

void Board::count_damage(uint8_t *told) const {
    const uint16_t counts[] = {bad_checksums_, half_commands_, refused_sends_};
    for (uint8_t i = 0; i < 6; i++) told[i] = static_cast<uint8_t>(counts[i / 2] >> (8 * (i % 2)));
}

}  // namespace mf
