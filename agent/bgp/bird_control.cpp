// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/bird_control.h"

#include <fmt/format.h>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <unistd.h>

namespace manx::bgp {

namespace {

// A reply of BIRD's is a few hundred bytes per protocol: far below this with thousands of them.
constexpr size_t kMaxReply = size_t{64} << 20;

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
        text.remove_suffix(1);
    }
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
        text.remove_prefix(1);
    }
    return text;
}

// Takes the first word off the text.
std::string word(std::string_view& text) {
    text = trimmed(text);
    auto end = text.find(' ');
    std::string first(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end);
    return first;
}

template <typename T>
T number(std::string_view text) {
    T value = 0;
    text = trimmed(text);
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

// "Neighbor address: 10.0.0.1" -> the part behind the colon if the key is the given one.
std::optional<std::string_view> value_of(std::string_view line, std::string_view key) {
    line = trimmed(line);
    if (line.size() <= key.size() || !line.starts_with(key) || line[key.size()] != ':') {
        return std::nullopt;
    }
    return trimmed(line.substr(key.size() + 1));
}

void read_details(ProtocolStatus& protocol, std::string_view line) {
    if (auto value = value_of(line, "BGP state")) {
        protocol.bgp_state = *value;
    } else if (auto address = value_of(line, "Neighbor address")) {
        // A link-local one has "%interface" behind it.
        if (auto parsed = IpAddress::parse(address->substr(0, address->find('%')))) {
            protocol.neighbor = *parsed;
        }
    } else if (auto as = value_of(line, "Neighbor AS")) {
        protocol.neighbor_as = number<uint32_t>(*as);
    } else if (auto routes = value_of(line, "Routes")) {
        std::string_view rest = *routes;
        while (!rest.empty()) {
            auto comma = rest.find(',');
            std::string_view item = trimmed(rest.substr(0, comma));
            auto count = number<uint64_t>(item);
            if (item.ends_with("imported")) {
                protocol.routes_imported += count;
            } else if (item.ends_with("exported")) {
                protocol.routes_exported += count;
            }
            rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
        }
    }
}

bool is_code(std::string_view line) {
    return line.size() >= 5 && (line[4] == '-' || line[4] == ' ') &&
           line.substr(0, 4).find_first_not_of("0123456789") == std::string_view::npos;
}

} // namespace

const std::string& Reply::message() const {
    static const std::string none;
    for (const ReplyLine& line : lines) {
        if (line.code >= reply::kFirstError) {
            return line.text;
        }
    }
    return lines.empty() ? none : lines.back().text;
}

void ReplyParser::feed(std::string_view bytes) {
    buffer_ += bytes;
}

Result<std::optional<Reply>> ReplyParser::next() {
    size_t start = 0;
    std::optional<Reply> complete;
    while (!complete) {
        auto end = buffer_.find('\n', start);
        if (end == std::string::npos) {
            break;
        }
        std::string_view line(buffer_.data() + start, end - start);
        start = end + 1;
        if (!line.empty() && line[0] == '+') {
            continue; // a message that belongs to no request
        }
        if (line.empty() || line[0] == ' ') {
            // Goes on with the code of the line before.
            int code = partial_.code();
            partial_.lines.push_back({code, std::string(line.substr(line.empty() ? 0 : 1))});
            continue;
        }
        if (!is_code(line)) {
            return fail(ErrorKind::Unavailable,
                        fmt::format("control socket: \"{}\": expected a reply of BIRD",
                                    line.substr(0, 80)));
        }
        partial_.lines.push_back({number<int>(line.substr(0, 4)), std::string(line.substr(5))});
        if (line[4] == ' ') {
            complete = std::exchange(partial_, {});
        }
    }
    buffer_.erase(0, start);
    if (!complete && buffer_.size() > kMaxReply) {
        return fail(ErrorKind::Unavailable, "control socket: a reply without an end");
    }
    return complete;
}

BirdStatus parse_status(const Reply& reply) {
    BirdStatus status;
    for (const ReplyLine& line : reply.lines) {
        std::string_view text = line.text;
        auto after = [&](std::string_view prefix) {
            return std::string(trimmed(text.substr(prefix.size())));
        };
        if (line.code == reply::kVersion) {
            status.version = text;
        } else if (line.code == reply::kRunning) {
            status.running = true;
        } else if (line.code == reply::kGracefulRestart) {
            status.recovering = true;
        } else if (line.code == reply::kStatusDetails) {
            // Facts within one code, which only their words tell apart.
            for (auto [prefix, target] :
                 {std::pair<std::string_view, std::string*>{"Router ID is ", &status.router_id},
                  {"Last reboot on ", &status.last_reboot},
                  {"Last reconfiguration on ", &status.last_reconfiguration}}) {
                if (text.starts_with(prefix)) {
                    *target = after(prefix);
                }
            }
            if (text.starts_with("Graceful restart recovery in progress")) {
                status.recovering = true;
            }
        }
    }
    return status;
}

std::vector<ProtocolStatus> parse_protocols(const Reply& reply) {
    std::vector<ProtocolStatus> protocols;
    for (const ReplyLine& line : reply.lines) {
        std::string_view rest = line.text;
        if (line.code == reply::kProtocolLine) {
            ProtocolStatus protocol;
            protocol.name = word(rest);
            protocol.proto = word(rest);
            word(rest); // table
            protocol.state = word(rest);
            protocol.since = word(rest);
            protocol.info = trimmed(rest);
            protocols.push_back(std::move(protocol));
        } else if (line.code == reply::kProtocolDetails && !protocols.empty()) {
            read_details(protocols.back(), rest);
        }
    }
    return protocols;
}

BirdControl::BirdControl(EventLoop& loop, std::string socket_path)
    : loop_(loop), path_(std::move(socket_path)) {
}

BirdControl::~BirdControl() = default;

Result<void> BirdControl::connect() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path_.size() >= sizeof address.sun_path) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("control socket {}: the path is too long", path_));
    }
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        return fail_errno("socket");
    }
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
        return fail(ErrorKind::Unavailable, fmt::format("control socket {}", path_), errno);
    }
    TRY_ASSIGN(io_, loop_.add_io(fd.get(), EPOLLIN, [this](uint32_t events) { on_io(events); }));
    socket_ = std::move(fd);
    parser_ = {};
    greeted_ = false;
    return {};
}

void BirdControl::request(std::string command, Done done, std::chrono::milliseconds timeout) {
    queue_.push_back({std::move(command), std::move(done), timeout});
    pump();
}

void BirdControl::reset() {
    fail_all(Error{ErrorKind::Unavailable, 0, "BIRD has ended"});
}

void BirdControl::pump() {
    if (busy_ || queue_.empty()) {
        return;
    }
    if (!socket_) {
        if (auto connected = connect(); !connected) {
            fail_all(connected.error());
            return;
        }
    }
    busy_ = true;
    // Commands are short: they fit into the socket's buffer, which is empty between requests.
    std::string line = queue_.front().command + "\n";
    ssize_t sent = send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(line.size())) {
        fail_all(Error{ErrorKind::Unavailable, sent < 0 ? errno : 0, "control socket: send"});
        return;
    }
    auto timer = loop_.add_timer(queue_.front().timeout, [this] {
        fail_all(Error{ErrorKind::Unavailable, ETIMEDOUT,
                       fmt::format("BIRD does not answer \"{}\"", queue_.front().command)});
    });
    if (timer) {
        timer_ = std::move(*timer);
    }
}

void BirdControl::on_io(uint32_t /*revents*/) {
    std::array<char, 65536> buffer{};
    ssize_t got = read(socket_.get(), buffer.data(), buffer.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        fail_all(Error{ErrorKind::Unavailable, got < 0 ? errno : 0,
                       "control socket: BIRD closed the connection"});
        return;
    }
    parser_.feed({buffer.data(), static_cast<size_t>(got)});
    while (socket_) {
        auto next = parser_.next();
        if (!next) {
            fail_all(next.error());
            return;
        }
        if (!*next) {
            return;
        }
        if (!greeted_) {
            greeted_ = true; // "0001 BIRD ... ready."
        } else {
            on_reply(std::move(**next));
        }
    }
}

void BirdControl::on_reply(Reply reply) {
    if (!busy_) {
        return;
    }
    Done done = std::move(queue_.front().done);
    queue_.pop_front();
    busy_ = false;
    timer_ = {};
    done(std::move(reply));
    pump();
}

void BirdControl::fail_all(const Error& error) {
    socket_.reset();
    io_ = {};
    timer_ = {};
    busy_ = false;
    // Only those of now: a callback may ask again.
    auto failed = std::exchange(queue_, {});
    for (Pending& pending : failed) {
        pending.done(Unexpected(error));
    }
}

} // namespace manx::bgp
