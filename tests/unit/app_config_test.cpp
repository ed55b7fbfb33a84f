// SPDX-License-Identifier: Apache-2.0
#include "agent/app/config.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
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

// calico-node's own variables win over the file, and lose against ours.
TEST_F(Config, FelixVariables) {
    const char* yaml = "defaultEndpointToHostAction: Return\npolicy: {vxlanPort: 5000}\n";
    env_ = {{"FELIX_DEFAULTENDPOINTTOHOSTACTION", "ACCEPT"},
            {"FELIX_ALLOWVXLANPACKETSFROMWORKLOADS", "1"},
            {"FELIX_ALLOWIPIPPACKETSFROMWORKLOADS", "false"},
            {"FELIX_LOGSEVERITYSCREEN", "Warning"},
            {"FELIX_VXLANPORT", "4790"},
            {"MANX_POLICY_VXLANPORT", "4791"}};
    auto config = load(yaml);
    ASSERT_TRUE(config) << config.error().text();
    EXPECT_EQ(config->shared.default_endpoint_to_host_action, "Accept");
    EXPECT_EQ(config->shared.allow_vxlan_from_workloads, true);
    EXPECT_EQ(config->shared.allow_ipip_from_workloads, false);
    EXPECT_EQ(config->shared.log_level, "warn");
    EXPECT_EQ(config->shared.vxlan_port, 4791);
    env_ = {};
    config = load(yaml);
    EXPECT_EQ(config->shared.default_endpoint_to_host_action, "Return");
    EXPECT_EQ(config->shared.vxlan_port, 5000);
    env_ = {{"FELIX_DEFAULTENDPOINTTOHOSTACTION", "reject"}};
    config = load(yaml);
    ASSERT_FALSE(config);
    EXPECT_EQ(config.error().text(), "FELIX_DEFAULTENDPOINTTOHOSTACTION: \"reject\": expected one "
                                     "of Accept, Return, Drop");
}

TEST_F(Config, HostEncryptionOfWireguardIsCalicosVariable) {
    auto encrypts = [this](const std::string& yaml) {
        auto config = load(yaml);
        EXPECT_TRUE(config) << config.error().text();
        return config ? std::optional(config->wireguard_host_encryption) : std::nullopt;
    };
    EXPECT_EQ(encrypts(""), false);
    EXPECT_EQ(encrypts("wireguard:\n  hostEncryption: true\n"), true);
    env_ = {{"FELIX_WIREGUARDHOSTENCRYPTIONENABLED", "1"}};
    EXPECT_EQ(encrypts(""), true);
}

TEST_F(Config, FelixVariablesInAnyLetters) {
    const std::string own = "FELIX_Test" + std::to_string(getpid());
    ASSERT_EQ(setenv(own.c_str(), "x", 1), 0);
    EXPECT_EQ(process_environment("FELIX_TEST" + std::to_string(getpid())), "x");
    EXPECT_EQ(process_environment("FELIX_TEST"), std::nullopt);
    unsetenv(own.c_str());
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
