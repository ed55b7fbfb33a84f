// SPDX-License-Identifier: Apache-2.0
// The CNI plugin. It holds no credentials and no logic: it hands the environment, standard input
// and the pod's network namespace to the agent's socket and prints the answer. It runs once or
// twice per pod, so its start is a cost: static, no streams, no JSON library, no locale.
//
// Installed as `calico` it does the same (the agent understands Calico's configuration). As
// `calico-ipam` it only explains that addresses come from the agent.
#include "agent/cni/plugin/json_scan.h"
#include "agent/cni/protocol.h"
#include "base/unique_fd.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <string>
#include <string_view>
#include <unistd.h>

#ifndef MANX_VERSION
#define MANX_VERSION "unknown"
#endif

extern char** environ;

namespace {

using manx::UniqueFd;
using manx::cni::plugin::quoted;
using manx::cni::plugin::top_level_string;

// Codes of the CNI specification.
constexpr int kInvalidEnvironment = 4;
constexpr int kIoFailure = 5;
constexpr int kInvalidConfig = 7;
constexpr int kTryAgainLater = 11;
constexpr int kNotAvailable = 50; // STATUS only

// Longer than any healthy answer, shorter than a runtime's own patience.
constexpr int kAnswerTimeoutMs = 90 * 1000;

void write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = write(fd, text.data(), text.size());
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return; // nobody reads: the exit status still tells
        }
        text.remove_prefix(static_cast<size_t>(n));
    }
}

std::string_view environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string_view{} : std::string_view{value};
}

std::string version_of(std::string_view input) {
    return top_level_string(input, "cniVersion").value_or("0.1.0");
}

int fail(std::string_view input, int code, std::string_view message, std::string_view details) {
    std::string out = "{\"cniVersion\":" + quoted(version_of(input)) +
                      ",\"code\":" + std::to_string(code) + ",\"msg\":" + quoted(message);
    if (!details.empty()) {
        out += ",\"details\":" + quoted(details);
    }
    write_all(STDOUT_FILENO, out + "}\n");
    return 1;
}

std::optional<std::string> read_input() {
    std::string input;
    std::array<char, 16384> chunk{};
    while (true) {
        const ssize_t n = read(STDIN_FILENO, chunk.data(), chunk.size());
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 || input.size() > manx::cni::kMaxBody) {
            return std::nullopt;
        }
        if (n == 0) {
            return input;
        }
        input.append(chunk.data(), static_cast<size_t>(n));
    }
}

int print_versions(std::string_view input) {
    const auto asked = top_level_string(input, "cniVersion");
    std::string out = "{\"cniVersion\":" +
                      quoted(asked ? std::string_view(*asked) : manx::cni::kNewestCniVersion) +
                      ",\"supportedVersions\":[";
    bool first = true;
    for (const std::string_view version : manx::cni::kCniVersions) {
        out += first ? "" : ",";
        out += quoted(version);
        first = false;
    }
    write_all(STDOUT_FILENO, out + "]}\n");
    return 0;
}

bool wait_for(int fd, short events) {
    pollfd p{fd, events, 0};
    int rc = 0;
    do {
        rc = poll(&p, 1, kAnswerTimeoutMs);
    } while (rc < 0 && errno == EINTR);
    return rc > 0;
}

// The first byte carries the namespace's descriptor.
bool send_request(int fd, std::string_view bytes, int netns) {
    while (!bytes.empty()) {
        iovec part{const_cast<char*>(bytes.data()), bytes.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
        if (netns >= 0) {
            message.msg_control = control.data();
            message.msg_controllen = control.size();
            cmsghdr* rights = CMSG_FIRSTHDR(&message);
            rights->cmsg_level = SOL_SOCKET;
            rights->cmsg_type = SCM_RIGHTS;
            rights->cmsg_len = CMSG_LEN(sizeof(int));
            std::memcpy(CMSG_DATA(rights), &netns, sizeof netns);
        }
        const ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        netns = -1;
        bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
}

std::optional<std::string> receive(int fd, size_t size) {
    std::string out(size, '\0');
    size_t have = 0;
    while (have < size) {
        if (!wait_for(fd, POLLIN)) {
            return std::nullopt;
        }
        const ssize_t n = read(fd, out.data() + have, size - have);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return std::nullopt;
        }
        have += static_cast<size_t>(n);
    }
    return out;
}

UniqueFd connect_to(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return {};
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd ||
        connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return {};
    }
    return fd;
}

std::string request_bytes(std::string input) {
    manx::cni::WireRequest request;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        const size_t equals = text.find('=');
        if (text.substr(0, 4) == "CNI_" && equals != std::string_view::npos) {
            request.environment.emplace_back(text.substr(0, equals), text.substr(equals + 1));
        }
    }
    request.input = std::move(input);
    std::string body = encode_body(request);
    return manx::cni::encode_header(
               {manx::cni::kRequestMagic, static_cast<uint32_t>(body.size())}) +
           body;
}

int forward(const std::string& input) {
    const std::string_view command = environment("CNI_COMMAND");
    // STATUS has a code of its own for "cannot serve ADD".
    const int not_there = command == "STATUS" ? kNotAvailable : kTryAgainLater;
    const std::string path = top_level_string(input, "socket").value_or(manx::cni::kDefaultSocket);
    const UniqueFd agent = connect_to(path);
    if (!agent) {
        return fail(input, not_there, "the Manx agent of this node is not running",
                    "connect to " + path + ": " + std::strerror(errno));
    }
    UniqueFd netns;
    if (const std::string netns_path(environment("CNI_NETNS")); !netns_path.empty()) {
        // One that is gone is the agent's to judge: an error for ADD, none for DEL.
        netns = UniqueFd(open(netns_path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!netns && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
            return fail(input, not_there, "CNI_NETNS: no free descriptor for it",
                        "open " + netns_path + ": " + std::strerror(errno));
        }
    }
    if (!send_request(agent.get(), request_bytes(input), netns.get())) {
        return fail(input, not_there, "the Manx agent of this node went away", path);
    }
    const auto head = receive(agent.get(), manx::cni::kHeaderSize);
    if (!head) {
        return fail(input, not_there, "the Manx agent of this node did not answer", path);
    }
    const auto header = manx::cni::decode_header(*head);
    if (header.length > manx::cni::kMaxBody) {
        return fail(input, kIoFailure, "the answer of the Manx agent is not understood", path);
    }
    const auto text = receive(agent.get(), header.length);
    if (!text) {
        return fail(input, not_there, "the Manx agent of this node went away", path);
    }
    write_all(STDOUT_FILENO, *text);
    return static_cast<int>(header.first);
}

std::string_view base_name(std::string_view path) {
    const size_t slash = path.rfind('/');
    return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

} // namespace

int main(int argc, char** argv) {
    const std::string_view name = base_name(argc > 0 ? argv[0] : "manx");
    if (argc > 1) {
        const std::string_view option(argv[1]);
        if (option == "-v" || option == "--version") {
            write_all(STDOUT_FILENO, "manx CNI plugin " MANX_VERSION "\n");
            return 0;
        }
        write_all(STDERR_FILENO, "usage: run by a container runtime, with CNI_COMMAND in the "
                                 "environment and the network configuration on standard input\n"
                                 "  -v  print the version\n");
        return option == "-h" || option == "--help" ? 0 : 2;
    }
    const std::string_view command = environment("CNI_COMMAND");
    if (command.empty()) {
        return fail({}, kInvalidEnvironment, "CNI_COMMAND is not set",
                    "expected ADD, DEL, CHECK, GC, STATUS or VERSION");
    }
    const auto input = read_input();
    if (!input) {
        return fail({}, kIoFailure, "standard input: cannot be read, or longer than 4 MiB", {});
    }
    if (command == "VERSION") {
        return print_versions(*input);
    }
    if (name == "calico-ipam") {
        return fail(*input, kInvalidConfig, "calico-ipam is not a plugin of its own here",
                    "the Manx agent gives addresses itself: name the plugin \"manx\" or \"calico\" "
                    "as the network's type, and leave \"calico-ipam\" as its ipam.type");
    }
    return forward(*input);
}
