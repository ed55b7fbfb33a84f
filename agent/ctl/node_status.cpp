// SPDX-License-Identifier: Apache-2.0
// manxctl node status: this node's BGP sessions, asked of BIRD itself, in calicoctl's layout.
#include "agent/app/config.h"
#include "agent/bgp/bird_control.h"
#include "agent/ctl/commands.h"
#include "base/event_loop.h"
#include "base/unique_fd.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <ostream>
#include <sstream>
#include <unistd.h>

namespace manx::ctl {

namespace {

using bgp::ProtocolStatus;
using Row = std::array<std::string, 5>;

// Whether something listens: the agent does, on the socket of the CNI plugin.
bool listens(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return false;
    }
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return fd && connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

Result<std::vector<ProtocolStatus>> ask_bird(const std::string& path) {
    TRY_ASSIGN(auto loop, EventLoop::create());
    bgp::BirdControl control(*loop, path);
    Result<bgp::Reply> answer;
    bool answered = false;
    control.request("show protocols all", [&](Result<bgp::Reply> reply) {
        answer = std::move(reply);
        answered = true;
        loop->quit();
    });
    if (!answered) {
        loop->run();
    }
    if (!answer) {
        return Unexpected(answer.error());
    }
    return bgp::parse_protocols(*answer);
}

std::optional<std::string> peer_type(const std::string& name) {
    if (name.starts_with("Mesh_")) {
        return "node-to-node mesh";
    }
    if (name.starts_with("Global_")) {
        return "global";
    }
    if (name.starts_with("Node_")) {
        return "node specific";
    }
    return std::nullopt; // local workloads are not listed
}

std::string single_spaced(const std::string& text) {
    std::istringstream words(text);
    std::string out;
    for (std::string word; words >> word;) {
        out += (out.empty() ? "" : " ") + word;
    }
    return out;
}

void print_table(std::ostream& out, const std::vector<Row>& rows) {
    std::array<size_t, 5> widths{};
    for (const Row& row : rows) {
        for (size_t i = 0; i < row.size(); i++) {
            widths[i] = std::max(widths[i], row[i].size());
        }
    }
    std::string rule = "+";
    for (size_t width : widths) {
        rule += std::string(width + 2, '-') + "+";
    }
    out << rule << "\n";
    for (size_t r = 0; r < rows.size(); r++) {
        out << "|";
        for (size_t i = 0; i < rows[r].size(); i++) {
            out << fmt::format(" {:<{}} |", rows[r][i], widths[i]);
        }
        out << "\n";
        if (r == 0) {
            out << rule << "\n";
        }
    }
    out << rule << "\n";
}

void print_family(std::ostream& out, const std::vector<ProtocolStatus>& protocols, Family family) {
    std::vector<Row> rows{{"PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"}};
    for (const ProtocolStatus& protocol : protocols) {
        auto type = peer_type(protocol.name);
        if (protocol.proto == "BGP" && type && protocol.neighbor &&
            protocol.neighbor->family() == family) {
            rows.push_back({protocol.neighbor->text(), *type, protocol.state, protocol.since,
                            single_spaced(protocol.info)});
        }
    }
    const char* name = family == Family::V4 ? "IPv4" : "IPv6";
    out << "\n";
    if (rows.size() == 1) {
        out << "No " << name << " peers found.\n";
        return;
    }
    out << name << " BGP status\n";
    print_table(out, rows);
}

Result<void> run_status(Context& context, std::string control_path) {
    app::AgentConfig config;
    if (access(context.config_path.c_str(), R_OK) == 0) {
        TRY_ASSIGN(config, app::load_config(context.config_path, app::process_environment));
    }
    std::string cni_socket =
        config.cni_socket.empty() ? config.run_dir + "/cni.sock" : config.cni_socket;
    if (control_path.empty()) {
        control_path = config.bird_control_path.empty() ? config.run_dir + "/bird.ctl"
                                                        : config.bird_control_path;
    }
    bool running = listens(cni_socket);
    context.out << "Calico process is " << (running ? "" : "not ") << "running.\n";
    // BIRD runs on without its agent: what it does is worth knowing in either case.
    auto protocols = ask_bird(control_path);
    if (!protocols) {
        context.out << "\nThe BGP backend process (BIRD) is not running.\n";
        return Unexpected(protocols.error());
    }
    print_family(context.out, *protocols, Family::V4);
    print_family(context.out, *protocols, Family::V6);
    if (!running) {
        return fail(ErrorKind::Unavailable,
                    fmt::format("manx-agent does not answer on {}", cni_socket));
    }
    return {};
}

} // namespace

void add_node_commands(CLI::App& app, Context& context) {
    auto* node = app.add_subcommand("node", "This node");
    node->require_subcommand(1);
    auto* status = node->add_subcommand("status", "The node's BGP sessions");
    auto control_path = std::make_shared<std::string>();
    status->add_option("--bird-control", *control_path,
                       "BIRD's control socket; default: as the agent's configuration says");
    status->callback(
        [&context, control_path] { context.finish(run_status(context, *control_path)); });
}

} // namespace manx::ctl
