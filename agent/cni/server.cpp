// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/server.h"

#include "agent/cni/protocol.h"
#include "agent/netlink/netns.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>

namespace manx::cni {

namespace {

constexpr int kBacklog = 1024;
constexpr size_t kMaxConnections = 1024;
// For the peer's part: to say its request, to take its answer.
constexpr auto kPeerDeadline = std::chrono::seconds(5);
// The kernel's SCM_MAX_FD.
constexpr size_t kMaxDescriptors = 253;

std::string_view value_of(const WireRequest& wire, std::string_view name) {
    for (const auto& [key, value] : wire.environment) {
        if (key == name) {
            return value;
        }
    }
    return {};
}

// Whether the other end has been closed, by a plugin that ended.
bool is_gone(int fd) {
    char byte = 0;
    const ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

// All descriptors that came with a message; those that nobody takes are closed.
std::vector<UniqueFd> descriptors_of(msghdr& message) {
    std::vector<UniqueFd> out;
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
         part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= part->cmsg_len; at += sizeof(int)) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(part) + at, sizeof fd);
            out.emplace_back(fd);
        }
    }
    return out;
}

} // namespace

// One plugin process at the other end.
struct CniServer::Connection {
    UniqueFd fd;
    UniqueFd netns;    // came with the request
    bool lost = false; // a descriptor came that this process had no room for
    std::string bytes; // of the request, then of the answer
    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
    EventSource source;
    EventSource deadline;
};

Result<std::unique_ptr<CniServer>> CniServer::create(const Dependencies& with,
                                                     const ServerOptions& options) {
    TRY_ASSIGN(auto attachments, Attachments::open(with, options.state_dir));
    TRY_ASSIGN(const auto own_netns, netlink::current_netns_id());
    return std::unique_ptr<CniServer>(
        new CniServer(with.loop, options, std::move(attachments), own_netns));
}

CniServer::CniServer(EventLoop& loop, ServerOptions options,
                     std::unique_ptr<Attachments> attachments, netlink::NetnsId own_netns)
    : loop_(loop), options_(std::move(options)), log_(log::get("cni")),
      attachments_(std::move(attachments)), own_netns_(own_netns) {
}

CniServer::~CniServer() {
    if (listener_) {
        unlink(options_.socket_path.c_str());
    }
}

Result<void> CniServer::start() {
    TRY(attachments_->restore());
    return listen();
}

Result<void> CniServer::listen() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string& path = options_.socket_path;
    if (path.size() >= sizeof address.sun_path) {
        return fail(ErrorKind::ConfigInvalid, "CNI socket " + path + ": the path is too long");
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        return fail_errno("CNI socket");
    }
    // Left behind by an agent that was killed; two agents of one node exclude each other elsewhere.
    unlink(path.c_str());
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        chmod(path.c_str(), 0600) != 0 || ::listen(fd.get(), kBacklog) != 0) {
        return fail_errno("CNI socket " + path);
    }
    listener_ = std::move(fd);
    return watch_listener();
}

Result<void> CniServer::watch_listener() {
    TRY_ASSIGN(listener_source_,
               loop_.add_io(listener_.get(), EPOLLIN, [this](uint32_t) { on_connect(); }));
    return {};
}

// What waits would wake the loop again and again while it cannot be accepted.
void CniServer::pause_listener() {
    auto timer = loop_.add_timer(std::chrono::milliseconds(100), [this] {
        pause_ = {};
        if (auto watched = watch_listener(); !watched) {
            log_->error("CNI socket: {}", watched.error().text());
            pause_listener();
        }
    });
    if (timer) {
        listener_source_ = {};
        pause_ = std::move(*timer);
    }
}

void CniServer::set_deadline(uint64_t id) {
    auto timer = loop_.add_timer(kPeerDeadline, [this, id] {
        log_->warn("CNI connection closed: the other end neither says its request nor takes its "
                   "answer");
        connections_.erase(id);
    });
    if (timer) {
        connections_.at(id)->deadline = std::move(*timer);
    }
}

void CniServer::on_connect() {
    // All that wait, so that a burst gets on its way together.
    while (true) {
        if (connections_.size() >= kMaxConnections) {
            pause_listener();
            return;
        }
        UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!fd && (errno == EINTR || errno == ECONNABORTED)) {
            continue;
        }
        if (!fd) {
            if (errno != EAGAIN) {
                if (const auto why = fail_errno("CNI connection");
                    !std::exchange(refusing_, true)) {
                    log_->error("{}", why.value().text());
                }
                pause_listener();
            }
            return;
        }
        refusing_ = false;
        const uint64_t id = next_id_++;
        auto connection = std::make_unique<Connection>();
        connection->fd = std::move(fd);
        auto source =
            loop_.add_io(connection->fd.get(), EPOLLIN, [this, id](uint32_t) { on_readable(id); });
        if (!source) {
            log_->error("CNI connection: {}", source.error().text());
            continue;
        }
        connection->source = std::move(*source);
        connections_.emplace(id, std::move(connection));
        set_deadline(id);
        on_readable(id); // the request is there already, as a rule
    }
}

void CniServer::on_readable(uint64_t id) {
    Connection& connection = *connections_.at(id);
    std::array<char, 16384> chunk{};
    while (true) {
        iovec part{chunk.data(), chunk.size()};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxDescriptors * sizeof(int))> control{};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t n = recvmsg(connection.fd.get(), &message, MSG_CMSG_CLOEXEC);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN) {
                connections_.erase(id);
            }
            return;
        }
        connection.lost = connection.lost || (message.msg_flags & MSG_CTRUNC) != 0;
        if (auto came = descriptors_of(message); !came.empty() && !connection.netns) {
            connection.netns = std::move(came.front());
        }
        if (n == 0) { // gone before it had said everything
            connections_.erase(id);
            return;
        }
        connection.bytes.append(chunk.data(), static_cast<size_t>(n));
        if (connection.bytes.size() < kHeaderSize) {
            continue;
        }
        const WireHeader header = decode_header(connection.bytes);
        if (header.first != kRequestMagic || header.length > kMaxBody) {
            log_->warn("CNI connection speaks another protocol");
            connections_.erase(id);
            return;
        }
        if (connection.bytes.size() >= kHeaderSize + header.length) {
            connection.source = {};
            connection.deadline = {};
            on_request(id);
            return;
        }
    }
}

void CniServer::on_request(uint64_t id) {
    Connection& connection = *connections_.at(id);
    const auto wire = decode_body(std::string_view(connection.bytes).substr(kHeaderSize));
    if (!wire) {
        reply(id, "0.1.0",
              tl::unexpected(CniError{Code::DecodeFailure, "request not understood", {}}));
        return;
    }
    connection.bytes = {};
    auto request = parse_request(*wire);
    const std::string version = request ? request->conf.version : version_of(wire->input);
    const std::string command(value_of(*wire, "CNI_COMMAND"));
    auto answer = [this, id, version, command, since = connection.since,
                   alive = std::weak_ptr(alive_)](const Outcome& outcome) {
        if (alive.expired()) {
            return;
        }
        account(command, since, !outcome);
        reply(id, version, outcome);
    };
    if (!request) {
        answer(tl::unexpected(request.error()));
        return;
    }
    if (is_gone(connection.fd.get())) {
        // The runtime gave this call up and may have made the next one, which may have come first:
        // an ADD after its DEL would stay for ever.
        answer(tl::unexpected(CniError{Code::TryAgainLater, "the plugin is gone", {}}));
        return;
    }
    if (connection.lost && !connection.netns) {
        // Not to be taken for a sandbox that has none.
        answer(tl::unexpected(
            CniError{Code::TryAgainLater,
                     "CNI_NETNS: the agent has no free descriptor for " + request->netns,
                     {}}));
        return;
    }
    dispatch(std::move(*request), std::move(connection.netns), std::move(answer));
}

void CniServer::dispatch(CniRequest request, UniqueFd netns, Answer answer) {
    if (netns && !netlink::is_netns(netns.get())) {
        netns.reset(); // the plain file that is left of a namespace's mount point
    }
    if (const auto id = netns ? netlink::netns_id(netns.get()) : fail(ErrorKind::NotFound, {});
        id && *id == own_netns_) {
        if (request.command == Command::Add || request.command == Command::Check) {
            answer(tl::unexpected(CniError{Code::InvalidEnvironment,
                                           "CNI_NETNS: " + request.netns +
                                               " is the node's own network namespace, not a "
                                               "container's",
                                           {}}));
            return;
        }
        netns.reset(); // nothing of a container is there to be removed
    }
    switch (request.command) {
    case Command::Add:
        if (!not_ready_.empty()) {
            answer(tl::unexpected(CniError{Code::TryAgainLater, not_ready_, {}}));
            return;
        }
        attachments_->add(std::move(request), std::move(netns), std::move(answer));
        return;
    case Command::Del:
        attachments_->del(std::move(request), std::move(netns), std::move(answer));
        return;
    case Command::Check:
        attachments_->check(std::move(request), std::move(netns), std::move(answer));
        return;
    case Command::Gc:
        attachments_->collect_garbage(request, std::move(answer));
        return;
    case Command::Status:
        answer(status(request));
        return;
    }
}

Outcome CniServer::status(const CniRequest& request) const {
    const auto unavailable = [](std::string why) {
        return tl::unexpected(CniError{Code::NotAvailable, std::move(why), {}});
    };
    if (!not_ready_.empty()) {
        return unavailable(not_ready_);
    }
    const PoolView& pools = attachments_->pools();
    const NetConf& conf = request.conf;
    // What ADD would say of a configuration that names pools.
    for (const auto& [family, assign, key, names] :
         {std::tuple(Family::V4, conf.assign_ipv4, "ipv4_pools", &conf.pools4),
          std::tuple(Family::V6, conf.assign_ipv6, "ipv6_pools", &conf.pools6)}) {
        for (const std::string& name : *names) {
            if (assign != false && !pools.has_named(family, name)) {
                return unavailable(std::string("ipam.") + key + ": the given pool (" + name +
                                   ") does not exist, or is not enabled");
            }
        }
    }
    const bool v4 = pools.has_usable(Family::V4) || !conf.pools4.empty();
    const bool v6 = pools.has_usable(Family::V6) || !conf.pools6.empty();
    if (conf.assign_ipv4 == true && !v4) {
        return unavailable("no IPv4 pool gives addresses to pods of this node");
    }
    if (conf.assign_ipv6 == true && !v6) {
        return unavailable("no IPv6 pool gives addresses to pods of this node");
    }
    if (!v4 && !v6) {
        return unavailable("no IP pool gives addresses to pods of this node");
    }
    return std::string{};
}

void CniServer::reply(uint64_t id, std::string_view version, const Outcome& outcome) {
    const auto it = connections_.find(id);
    if (it == connections_.end()) {
        return;
    }
    const std::string text = outcome ? *outcome : render_error(version, outcome.error());
    Connection& connection = *it->second;
    connection.bytes =
        encode_header({outcome ? 0U : 1U, static_cast<uint32_t>(text.size())}) + text;
    on_writable(id);
}

void CniServer::on_writable(uint64_t id) {
    Connection& connection = *connections_.at(id);
    const ssize_t sent =
        send(connection.fd.get(), connection.bytes.data(), connection.bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        // The runtime gave up; it repeats the call, or calls DEL.
        log_->debug("the plugin was gone before its answer");
        connections_.erase(id);
        return;
    }
    connection.bytes.erase(0, static_cast<size_t>(std::max<ssize_t>(sent, 0)));
    if (connection.bytes.empty()) {
        connections_.erase(id);
        return;
    }
    if (!connection.source) { // longer than the socket's buffer
        auto source =
            loop_.add_io(connection.fd.get(), EPOLLOUT, [this, id](uint32_t) { on_writable(id); });
        if (!source) {
            connections_.erase(id);
            return;
        }
        connection.source = std::move(*source);
        set_deadline(id);
    }
}

void CniServer::account(std::string_view command, std::chrono::steady_clock::time_point since,
                        bool failed) {
    const auto took = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                                std::chrono::steady_clock::now() - since)
                                                .count());
    auto it = statistics_.find(command);
    if (it == statistics_.end()) {
        // Not by what a caller made up.
        constexpr std::array<std::string_view, 5> kKnown = {"ADD", "DEL", "CHECK", "GC", "STATUS"};
        const bool known = std::find(kKnown.begin(), kKnown.end(), command) != kKnown.end();
        it = statistics_.try_emplace(known ? std::string(command) : "other").first;
    }
    CommandStatistics& one = it->second;
    ++one.calls;
    one.errors += failed ? 1 : 0;
    one.microseconds += took;
    one.longest_microseconds = std::max(one.longest_microseconds, took);
}

void CniServer::upsert_pool(const api::IpPool& pool) {
    attachments_->pools().upsert(pool);
}

void CniServer::remove_pool(const std::string& name) {
    attachments_->pools().remove(name);
}

void CniServer::set_node_labels(api::LabelMap labels) {
    attachments_->pools().set_node_labels(std::move(labels));
}

} // namespace manx::cni
