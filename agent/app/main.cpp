// SPDX-License-Identifier: Apache-2.0
// manx-agent: reads the configuration, wires the agent, runs the loop.
#include "agent/app/agent.h"
#include "agent/app/config.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/priority.h"
#include "loader/loader.h"
#include "loader/probe.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <string>

namespace {

using manx::Result;

constexpr int kExitFailure = 1;

int report(const manx::Error& error) {
    fmt::print(stderr, "manx-agent: {}\n", error.text());
    return kExitFailure;
}

// The configuration is good and the kernel has what is needed; prints what it has.
int check() {
    auto probe = manx::loader::probe();
    if (!probe) {
        return report(probe.error());
    }
    for (const auto& feature : probe->features) {
        fmt::print("{:<40} {}{}\n", feature.name,
                   feature.present    ? "yes"
                   : feature.required ? "MISSING"
                                      : "no",
                   feature.note.empty() ? "" : "  (" + feature.note + ")");
    }
    return probe->missing().empty() ? 0 : kExitFailure;
}

Result<int> run(const manx::app::AgentConfig& config) {
    TRY_ASSIGN(auto loop, manx::EventLoop::create());
    auto quit = [&loop] { loop->quit(0); };
    TRY_ASSIGN(auto terminate, loop->add_signal(SIGTERM, quit));
    TRY_ASSIGN(auto interrupt, loop->add_signal(SIGINT, quit));
    TRY_ASSIGN(auto agent, manx::app::Agent::create(*loop, config));
    int code = loop->run();
    manx::log::get("agent")->info("stopping; what is forwarded goes on");
    return code;
}

} // namespace

int main(int argc, char** argv) {
    manx::keep_memory_small();
    manx::prefer_short_turns();
    CLI::App cli("The node agent of Manx: pods' network, policy and BGP on this node.");
    std::string config_path;
    bool check_only = false;
    bool remove = false;
    cli.add_option("--config", config_path, "YAML file; see docs/operations.md");
    cli.add_flag("--check", check_only, "check the configuration and the kernel, then exit");
    cli.add_flag("--remove", remove,
                 "take everything of Manx off this node (programs, tables, BIRD), then exit");
    cli.set_version_flag("--version", std::string("manx-agent ") + MANX_VERSION);
    CLI11_PARSE(cli, argc, argv);

    auto config = manx::app::load_config(config_path, manx::app::process_environment);
    if (!config) {
        return report(config.error());
    }
    manx::log::configure(config->shared.log_level.value_or("info"));
    if (check_only) {
        return check();
    }
    if (remove) {
        auto removed = manx::app::remove_from_node(*config);
        return removed ? 0 : report(removed.error());
    }
    // A peer that goes away mid-answer is an error of that answer, not of the agent.
    (void)std::signal(SIGPIPE, SIG_IGN);
    auto code = run(*config);
    return code ? *code : report(code.error());
}
