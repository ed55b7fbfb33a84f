// SPDX-License-Identifier: Apache-2.0
// A node with a running agent (cni_test_agent) and pods as namespaces.
#pragma once

#include "agent/datastore/sqlite_store.h"
#include "agent/netlink/link.h"
#include "tests/cni/netns_fixture.h"
#include "tests/cni/plugin_runner.h"
#include "tests/cni/seed.h"

#include <nlohmann/json.hpp>

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <poll.h>
#include <spawn.h>
#include <string>
#include <unistd.h>
#include <vector>

namespace manx::test {

inline std::string bin_folder() {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
}

class CniTest : public NetnsTest {
protected:
    static constexpr const char* kNode = "node-1";

    void SetUp() override {
        NetnsTest::SetUp();
        if (IsSkipped() || HasFatalFailure()) {
            return;
        }
        std::string pattern = "/tmp/manx-cni-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
        std::filesystem::create_directory(folder_ + "/state");
        auto store = datastore::open_sqlite(folder_ + "/store.db");
        ASSERT_TRUE(store) << store.error().text();
        store_ = std::move(*store);
        auto seeded = seed_cluster(*store_, kNode, 4);
        ASSERT_TRUE(seeded) << seeded.error().text();
    }

    void TearDown() override {
        kill_agent(SIGKILL);
        store_.reset();
        if (!folder_.empty()) {
            std::filesystem::remove_all(folder_);
        }
    }

    void start_agent() {
        std::array<int, 2> pipe_ends{};
        ASSERT_EQ(pipe2(pipe_ends.data(), O_CLOEXEC), 0);
        const UniqueFd reader(pipe_ends[0]);
        UniqueFd writer(pipe_ends[1]);
        std::array<std::string, 5> words{bin_folder() + "/cni_test_agent", folder_ + "/store.db",
                                         folder_ + "/state", socket(), kNode};
        std::array<char*, 6> arguments{words[0].data(), words[1].data(), words[2].data(),
                                       words[3].data(), words[4].data(), nullptr};
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
        ASSERT_EQ(
            posix_spawn(&agent_, words[0].c_str(), &actions, nullptr, arguments.data(), environ),
            0);
        posix_spawn_file_actions_destroy(&actions);
        writer.reset();
        pollfd waiting{reader.get(), POLLIN, 0};
        std::array<char, 16> text{};
        ASSERT_EQ(poll(&waiting, 1, 30000), 1);
        ASSERT_GT(read(reader.get(), text.data(), text.size()), 0) << "the agent did not start";
    }

    void kill_agent(int signal) {
        if (agent_ > 0) {
            kill(agent_, signal);
            waitpid(std::exchange(agent_, -1), nullptr, 0);
        }
    }

    [[nodiscard]] std::string socket() const { return folder_ + "/cni.sock"; }

    [[nodiscard]] nlohmann::json conf(const std::string& version = "1.1.0") const {
        return {{"cniVersion", version}, {"name", "net"}, {"type", "manx"}, {"socket", socket()}};
    }

    // A pod sandbox: its namespace lives as long as the descriptor.
    struct Sandbox {
        UniqueFd netns;
        std::string container;
        std::string pod;
    };

    Sandbox sandbox(const std::string& pod, const std::string& container) {
        auto made = new_netns();
        EXPECT_TRUE(made);
        return {std::move(*made), container, pod};
    }

    PluginCall call(const std::string& command, const Sandbox& box) const {
        PluginCall out;
        out.binary = bin_folder() + "/manx";
        out.command = command;
        out.container = box.container;
        if (box.netns) {
            out.netns =
                "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(box.netns.get());
        }
        if (!box.pod.empty()) {
            out.args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + box.pod;
        }
        out.conf = conf();
        return out;
    }

    // Addresses that IPAM holds for anybody.
    int allocated() {
        int count = 0;
        auto blocks = store_->list(api::Kind::IpamBlock);
        EXPECT_TRUE(blocks);
        for (const auto& object : blocks->objects) {
            const auto block = nlohmann::json::parse(object.json);
            for (const auto& one : block["spec"]["allocations"]) {
                count += one.is_null() ? 0 : 1;
            }
        }
        // What cools down carries no handle; those here are released for good.
        return count;
    }

    [[nodiscard]] size_t records() const {
        size_t count = 0;
        for (const auto& entry :
             std::filesystem::directory_iterator(folder_ + "/state/endpoints")) {
            count += entry.path().extension() == ".json" ? 1 : 0;
        }
        return count;
    }

    PluginResult run(const std::string& command, const Sandbox& box) {
        return run_plugin(call(command, box));
    }

    static bool on_node(const std::string& device) {
        auto socket = netlink::Socket::open();
        return socket && find_link(*socket, device).has_value();
    }

    static bool in_pod(const Sandbox& box, const std::string& device) {
        auto socket = netlink::Socket::open_in(box.netns.get());
        return socket && find_link(*socket, device).has_value();
    }

    static size_t devices() {
        auto socket = netlink::Socket::open();
        auto links = list_links(*socket);
        return static_cast<size_t>(std::count_if(links->begin(), links->end(), [](const auto& l) {
            return l.name.rfind("cali", 0) == 0;
        }));
    }

    std::string folder_;
    std::unique_ptr<datastore::Store> store_;
    pid_t agent_ = -1;
};

} // namespace manx::test
