// SPDX-License-Identifier: Apache-2.0
// The client of BIRD's control socket. Replies are told apart by their four-digit codes, never by
// their wording.
//
// Threading: the loop's thread. Requests are answered in order; the connection is opened with the
// first one and again after it was lost.
#pragma once

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <chrono>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace manx::bgp {

// Codes of BIRD 2 that matter here (doc/reply_codes).
namespace reply {
inline constexpr int kReconfigured = 3;
inline constexpr int kReconfiguring = 4;
inline constexpr int kReconfigurationQueued = 5;
inline constexpr int kShuttingDown = 6;
inline constexpr int kRunning = 13;
inline constexpr int kGracefulRestart = 24; // a line of "show status" while recovering
inline constexpr int kVersion = 1000;
inline constexpr int kProtocolLine = 1002;
inline constexpr int kProtocolDetails = 1006;
inline constexpr int kStatusDetails = 1011;
inline constexpr int kHeader = 2002;
inline constexpr int kConfigurationError = 8002;
inline constexpr int kFirstError = 8000;
} // namespace reply

struct ReplyLine {
    int code = 0;
    std::string text;
};

struct Reply {
    std::vector<ReplyLine> lines; // the last one carries the reply's code

    [[nodiscard]] int code() const { return lines.empty() ? 0 : lines.back().code; }

    // The first line that is an error, or the last line.
    [[nodiscard]] const std::string& message() const;
};

// Puts a reply together from what the socket delivers.
class ReplyParser {
public:
    void feed(std::string_view bytes);
    // The next complete reply; error: the other side does not speak BIRD's protocol.
    Result<std::optional<Reply>> next();

private:
    std::string buffer_;
    Reply partial_;
};

struct BirdStatus {
    std::string version; // "BIRD 2.0.12"
    std::string router_id;
    std::string last_reboot;
    std::string last_reconfiguration;
    bool running = false;    // "Daemon is up and running"
    bool recovering = false; // graceful restart in progress
};

struct ProtocolStatus {
    std::string name;  // "Node_10_0_0_1"
    std::string proto; // "BGP", "Kernel", ...
    std::string state; // "up", "start", "down"
    std::string since; // "09:12:31"
    std::string info;  // "Established", "Active        Socket: Connection refused"
    // Of BGP protocols only.
    std::string bgp_state;
    std::optional<IpAddress> neighbor;
    uint32_t neighbor_as = 0;
    uint64_t routes_imported = 0;
    uint64_t routes_exported = 0;
};

BirdStatus parse_status(const Reply& reply);                     // of "show status"
std::vector<ProtocolStatus> parse_protocols(const Reply& reply); // of "show protocols all"

class BirdControl {
public:
    using Done = std::function<void(Result<Reply>)>;

    BirdControl(EventLoop& loop, std::string socket_path);
    BirdControl(const BirdControl&) = delete;
    BirdControl& operator=(const BirdControl&) = delete;
    ~BirdControl(); // requests that are under way get no answer

    // done gets the reply whatever its code; Unavailable: no BIRD, or no answer in time. It may
    // run before this returns, where there is nothing to connect to.
    void request(std::string command, Done done,
                 std::chrono::milliseconds timeout = std::chrono::seconds(10));
    // Fails what is under way and forgets the connection: the other side is gone.
    void reset();

    [[nodiscard]] const std::string& path() const { return path_; }

private:
    struct Pending {
        std::string command;
        Done done;
        std::chrono::milliseconds timeout;
    };

    Result<void> connect();
    void pump(); // sends the next request if none is under way
    void on_io(uint32_t revents);
    void on_reply(Reply reply);
    void fail_all(const Error& error);

    EventLoop& loop_;
    std::string path_;
    UniqueFd socket_;
    EventSource io_;
    EventSource timer_;
    ReplyParser parser_;
    bool greeted_ = false;
    bool busy_ = false; // the first of queue_ has been sent
    std::deque<Pending> queue_;
};

} // namespace manx::bgp
