// SPDX-License-Identifier: Apache-2.0
#include "agent/app/config.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <unistd.h>

namespace manx::app {
namespace {

class Config : public testing::Test {
protected:
    Result<AgentConfig> load(const std::string& yaml) {
        std::ofstream(path_) << yaml;
        return load_config(path_, [this](const std::string& name) -> std::optional<std::string> {
            auto found = env_.find(name);
            return found == env_.end() ? std::nullopt : std::optional(found->second);
        });
    }

    ~Config() override { (void)std::remove(path_.c_str()); }

    std::string path_ = testing::TempDir() + "manx-config-" + std::to_string(getpid()) +
                        testing::UnitTest::GetInstance()->current_test_info()->name() + ".yaml";
    std::map<std::string, std::string> env_;
};

TEST_F(Config, DefaultsFollowTheRunDirectory) {
    auto config = load("nodeName: Node-1\nrunDir: /run/x\n");
    ASSERT_TRUE(config) << config.error().text();
    EXPECT_EQ(config->node_name, "node-1");
    EXPECT_EQ(config->cni_socket, "/run/x/cni.sock");
    EXPECT_EQ(config->metrics_port, 9091);
}

TEST_F(Config, EnvironmentWinsOverTheFile) {
    env_ = {{"MANX_NODENAME", "two"}, {"MANX_METRICS_PORT", "0"}, {"MANX_BIRD_ENABLED", "false"}};
    auto config = load("nodeName: one\nmetrics: {port: 1234}\n");
    ASSERT_TRUE(config) << config.error().text();
    EXPECT_EQ(config->node_name, "two");
    EXPECT_EQ(config->metrics_port, 0);
    EXPECT_FALSE(config->bird_enabled);
}

struct BadCase {
    const char* yaml;
    const char* names;
};

TEST_F(Config, ErrorsNameTheKeyAndWhatWasExpected) {
    for (const auto& [yaml, names] : {
             BadCase{"metrics: {port: 70000}", "metrics.port: \"70000\": expected a number"},
             BadCase{"bird: {enabled: maybe}", "bird.enabled: \"maybe\": expected true or false"},
             BadCase{"nodename: x", "nodename: no such key"},
             BadCase{"logLevel: loud", "logLevel: \"loud\": expected one of trace"},
             BadCase{"- a\n- b", "expected a YAML mapping"},
             BadCase{"a: [", ".yaml: "},
         }) {
        auto config = load(yaml);
        ASSERT_FALSE(config) << yaml;
        EXPECT_NE(config.error().text().find(names), std::string::npos) << config.error().text();
    }
    auto missing = load_config("/nonexistent/agent.yaml", process_environment);
    ASSERT_FALSE(missing);
    EXPECT_NE(missing.error().text().find("cannot be read"), std::string::npos);
}

} // namespace
} // namespace manx::app
