// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/agent_client.h"

#include "agent/api/meta.h"
#include "base/unique_fd.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>

namespace manx::ctl {

namespace {

constexpr int kTimeoutSeconds = 5;

Result<UniqueFd> connect_to(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        return fail(ErrorKind::ConfigInvalid, fmt::format("{}: name too long for a socket", path));
    }
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) {
        return fail_errno("socket");
    }
    timeval timeout{kTimeoutSeconds, 0};
    for (int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
        (void)::setsockopt(fd.get(), SOL_SOCKET, option, &timeout, sizeof timeout); // best effort
    }
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return fail(
            ErrorKind::Unavailable,
            fmt::format("no agent answers on {} (is manx-agent running on this node?)", path),
            errno);
    }
    return fd;
}

Result<std::string> exchange(int fd, const std::string& request) {
    for (size_t sent = 0; sent < request.size();) {
        ssize_t n = ::send(fd, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
        if (n < 0) {
            return fail_errno("agent: send");
        }
        sent += static_cast<size_t>(n);
    }
    std::string answer;
    std::array<char, 16384> buffer{};
    for (;;) {
        ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
        if (n < 0) {
            return fail_errno("agent: no answer");
        }
        if (n == 0) {
            return answer;
        }
        answer.append(buffer.data(), static_cast<size_t>(n));
    }
}

} // namespace

Result<nlohmann::json> ask_agent(const std::string& socket_path, const std::string& path) {
    TRY_ASSIGN(UniqueFd fd, connect_to(socket_path));
    // 1.0: the answer ends with the connection, never in chunks.
    TRY_ASSIGN(std::string answer,
               exchange(fd.get(), fmt::format("GET {} HTTP/1.0\r\nHost: agent\r\n\r\n", path)));
    size_t body = answer.find("\r\n\r\n");
    if (!answer.starts_with("HTTP/1.") || body == std::string::npos) {
        return fail(ErrorKind::Unavailable, fmt::format("agent: {}: not an answer", path));
    }
    std::string status = answer.substr(9, 3);
    if (status != "200") {
        return fail(ErrorKind::Unavailable, fmt::format("agent: {}: answers {}", path,
                                                        answer.substr(9, answer.find("\r\n") - 9)));
    }
    auto parsed = api::parse_json(std::string_view(answer).substr(body + 4));
    if (!parsed) {
        return Unexpected(parsed.error().within("agent: " + path));
    }
    return parsed;
}

} // namespace manx::ctl
