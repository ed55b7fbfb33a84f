// SPDX-License-Identifier: Apache-2.0
// cnitool, the CNI project's own client, drives the plugin by a conflist in which Debian's tuning
// plugin comes after it. It is a Go module and in no Debian package: built once, beside the build.
#include "tests/cni/cni_fixture.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace manx {
namespace {

constexpr const char* kModule = "github.com/containernetworking/cni/cnitool@v1.3.0";

struct Ended {
    int status = -1;
    std::string text;
};

Ended shell(const std::string& command) {
    Ended ended;
    FILE* pipe = popen((command + " 2>&1").c_str(), "r");
    if (pipe == nullptr) {
        return ended;
    }
    std::array<char, 4096> chunk{};
    while (const size_t n = fread(chunk.data(), 1, chunk.size(), pipe)) {
        ended.text.append(chunk.data(), n);
    }
    const int status = pclose(pipe);
    ended.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    return ended;
}

class Cnitool : public test::CniTest {
protected:
    void SetUp() override {
        CniTest::SetUp();
        if (IsSkipped() || HasFatalFailure()) {
            return;
        }
        if (access("/usr/lib/cni/tuning", X_OK) != 0) {
            GTEST_SKIP() << "Debian's containernetworking-plugins are not installed";
        }
        const std::string cache = test::bin_folder() + "/../cnitool";
        tool_ = cache + "/cnitool";
        if (access(tool_.c_str(), X_OK) != 0) {
            if (shell("command -v go").status != 0) {
                GTEST_SKIP() << "go is not installed: cnitool cannot be built";
            }
            // Downloads go by the machine's own network, not by the test's node.
            scope_.reset();
            const auto built = shell("GOBIN=$(realpath -m '" + cache +
                                     "') GOFLAGS=-mod=mod go install " + kModule);
            if (built.status != 0) {
                GTEST_SKIP() << "cnitool cannot be built: " << built.text;
            }
            scope_.emplace(std::move(*netlink::NetnsScope::enter(node_.get())));
        }
        std::filesystem::create_directory(folder_ + "/net.d");
        const nlohmann::json own = {{"type", "manx"}, {"socket", socket()}, {"mtu", 1450}};
        const nlohmann::json tuning = {{"type", "tuning"},
                                       {"dataDir", folder_ + "/tuning"},
                                       {"sysctl", {{"net.core.somaxconn", "300"}}}};
        // Debian's tuning speaks 1.0.0; GC and STATUS are of 1.1.0.
        write_list("chain", "1.0.0", nlohmann::json::array({own, tuning}));
        write_list("alone", "1.1.0", nlohmann::json::array({own}));
    }

    // Names are unique, since libcni keeps results under them.
    [[nodiscard]] static std::string network(const std::string& name) {
        return name + "-" + std::to_string(getpid());
    }

    void write_list(const std::string& name, const std::string& version,
                    const nlohmann::json& plugins) const {
        std::ofstream(folder_ + "/net.d/" + name + ".conflist") << nlohmann::json{
            {"cniVersion", version}, {"name", network(name)}, {"plugins", plugins}};
    }

    Ended tool(const std::string& command, const std::string& list, const Sandbox& box) {
        return shell("NETCONFPATH=" + folder_ + "/net.d CNI_PATH=" + test::bin_folder() +
                     ":/usr/lib/cni CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=default;"
                     "K8S_POD_NAME=" +
                     box.pod + "' " + tool_ + " " + command + " " + network(list) + " " +
                     call("ADD", box).netns);
    }

    std::string tool_;
};

TEST_F(Cnitool, add_check_del_with_tuning_after_it) {
    const auto box = sandbox("pod-0", "named-by-cnitool");
    const auto early = tool("add", "chain", box);
    EXPECT_NE(early.status, 0) << "no agent";
    EXPECT_NE(early.text.find("agent of this node is not running"), std::string::npos)
        << early.text;
    start_agent();
    auto done = tool("add", "chain", box);
    ASSERT_EQ(done.status, 0) << done.text;
    const auto result = nlohmann::json::parse(done.text, nullptr, false);
    ASSERT_TRUE(result.is_object()) << done.text;
    EXPECT_EQ(result["ips"].size(), 2U);
    done = tool("check", "chain", box);
    EXPECT_EQ(done.status, 0) << done.text;
    done = tool("del", "chain", box);
    EXPECT_EQ(done.status, 0) << done.text;
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
}

TEST_F(Cnitool, status_and_garbage) {
    start_agent();
    const auto box = sandbox("pod-1", "named-by-cnitool");
    auto done = tool("status", "alone", box);
    EXPECT_EQ(done.status, 0) << done.text;
    done = tool("add", "alone", box);
    ASSERT_EQ(done.status, 0) << done.text;
    done = tool("gc", "alone", box); // cnitool lists no attachment as valid
    EXPECT_EQ(done.status, 0) << done.text;
    EXPECT_EQ(allocated(), 0);
    done = tool("del", "alone", box);
    EXPECT_EQ(done.status, 0) << done.text;
}

} // namespace
} // namespace manx
