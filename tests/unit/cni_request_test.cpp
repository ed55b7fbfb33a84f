// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manx::cni {
namespace {

WireRequest wire(const std::string& command, const std::string& conf,
                 const std::string& args = "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web") {
    return {{{"CNI_COMMAND", command},
             {"CNI_CONTAINERID", "c1"},
             {"CNI_IFNAME", "eth0"},
             {"CNI_NETNS", "/run/netns/x"},
             {"CNI_ARGS", args}},
            conf};
}

constexpr const char* kConf = R"({"cniVersion": "1.0.0", "name": "net", "type": "manx"})";

TEST(CniRequest, environment_and_configuration) {
    const auto request = parse_request(
        wire("ADD", R"({"cniVersion": "0.3.1", "name": "k8s-pod-network", "type": "calico",
                        "mtu": 1440, "unknown": {"x": [1, null]},
                        "ipam": {"type": "calico-ipam", "assign_ipv4": "true",
                                 "assign_ipv6": "false", "ipv4_pools": ["10.0.0.0/8", "p"]},
                        "container_settings": {"allow_ip_forwarding": true},
                        "feature_control": {"ip_addrs_no_ipam": true}})",
             "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_UID=u;IP=192.0.2.9;"));
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(request->command, Command::Add);
    EXPECT_EQ(request->attachment, (Attachment{"c1", "eth0"}));
    EXPECT_EQ(request->ns, "ns");
    EXPECT_EQ(request->pod, "web");
    EXPECT_EQ(request->fixed_address->text(), "192.0.2.9");
    EXPECT_EQ(request->conf.mtu, 1440U);
    EXPECT_EQ(request->conf.assign_ipv4, true);
    EXPECT_EQ(request->conf.assign_ipv6, false);
    EXPECT_THAT(request->conf.pools4, testing::ElementsAre("10.0.0.0/8", "p"));
    EXPECT_TRUE(request->conf.allow_ip_forwarding);
    EXPECT_TRUE(request->conf.ip_addrs_no_ipam);
}

struct BadConf {
    const char* name;
    const char* conf;
    Code code;
    const char* says;
};

class CniBadConf : public testing::TestWithParam<BadConf> {};

TEST_P(CniBadConf, is_refused_by_name) {
    const auto& c = GetParam();
    const auto request = parse_request(wire("ADD", c.conf));
    ASSERT_FALSE(request);
    EXPECT_EQ(request.error().code, c.code) << request.error().message;
    EXPECT_THAT(request.error().message, testing::HasSubstr(c.says));
}

INSTANTIATE_TEST_SUITE_P(
    Conf, CniBadConf,
    testing::Values(
        BadConf{"no_json", "{", Code::DecodeFailure, "JSON"},
        BadConf{"a_list", "[]", Code::DecodeFailure, "JSON object"},
        BadConf{"version", R"({"cniVersion": "2.0.0", "name": "n"})", Code::IncompatibleVersion,
                "2.0.0"},
        BadConf{"no_name", R"({"cniVersion": "1.0.0"})", Code::InvalidConfig, "name:"},
        BadConf{"bad_name", R"({"cniVersion": "1.0.0", "name": "a/b"})", Code::InvalidConfig,
                "a/b"},
        BadConf{"mtu", R"({"cniVersion": "1.0.0", "name": "n", "mtu": 10})", Code::InvalidConfig,
                "mtu:"},
        BadConf{"mtu_text", R"({"cniVersion": "1.0.0", "name": "n", "mtu": "1500"})",
                Code::InvalidConfig, "mtu:"},
        BadConf{"ipam_type", R"({"cniVersion": "1.0.0", "name": "n", "ipam": {"type": "dhcp"}})",
                Code::InvalidConfig, "ipam.type"},
        BadConf{"assign",
                R"({"cniVersion": "1.0.0", "name": "n", "ipam": {"assign_ipv4": "maybe"}})",
                Code::InvalidConfig, "ipam.assign_ipv4"},
        BadConf{"no_family",
                R"({"cniVersion": "1.0.0", "name": "n",
                    "ipam": {"assign_ipv4": "false", "assign_ipv6": "false"}})",
                Code::InvalidConfig, "both false"},
        BadConf{"pools", R"({"cniVersion": "1.0.0", "name": "n", "ipam": {"ipv4_pools": "p"}})",
                Code::InvalidConfig, "ipam.ipv4_pools"},
        BadConf{"settings", R"({"cniVersion": "1.0.0", "name": "n", "container_settings": []})",
                Code::InvalidConfig, "container_settings"},
        BadConf{"prev_result",
                R"({"cniVersion": "1.0.0", "name": "n", "prevResult": {"ips": [{}]}})",
                Code::InvalidConfig, "prevResult.ips[0].address"}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(CniRequest, environment_that_is_refused_by_name) {
    const auto with = [](const std::string& name, const std::string& value) {
        WireRequest request = wire("ADD", kConf);
        for (auto& [key, old] : request.environment) {
            if (key == name) {
                old = value;
            }
        }
        return parse_request(request);
    };
    for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{
             {"CNI_COMMAND", "EAT"},
             {"CNI_CONTAINERID", ""},
             {"CNI_CONTAINERID", "../x"},
             {"CNI_CONTAINERID", std::string(200, 'a')},
             {"CNI_IFNAME", ""},
             {"CNI_IFNAME", "a/b"},
             {"CNI_NETNS", ""},
             {"CNI_ARGS", "nonsense"},
             {"CNI_ARGS", "IP=not-an-address"}}) {
        const auto request = with(name, value);
        ASSERT_FALSE(request) << name << "=" << value;
        EXPECT_EQ(request.error().code, Code::InvalidEnvironment);
        EXPECT_THAT(request.error().message, testing::HasSubstr(name));
    }
    EXPECT_FALSE(with("CNI_ARGS", "K8S_POD_NAME=web")) << "without its namespace";
}

TEST(CniRequest, commands_need_their_version) {
    EXPECT_EQ(parse_request(wire("CHECK", R"({"cniVersion": "0.3.1", "name": "n"})")).error().code,
              Code::IncompatibleVersion);
    EXPECT_EQ(parse_request(wire("GC", kConf)).error().code, Code::IncompatibleVersion);
    EXPECT_EQ(parse_request(wire("STATUS", kConf)).error().code, Code::IncompatibleVersion);
    EXPECT_TRUE(parse_request(wire("STATUS", R"({"cniVersion": "1.1.0", "name": "n"})")));
    EXPECT_TRUE(parse_request(wire("DEL", R"({"name": "n"})"))) << "0.1.0";
}

TEST(CniRequest, attachments_that_gc_keeps) {
    const auto request = parse_request(
        wire("GC", R"({"cniVersion": "1.1.0", "name": "n", "cni.dev/valid-attachments":
                  [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "e"}]})"));
    ASSERT_TRUE(request);
    EXPECT_TRUE(request->conf.valid_attachments.contains({"a", "eth0"}));
    EXPECT_EQ(request->conf.valid_attachments.size(), 2U);
    EXPECT_FALSE(parse_request(wire("GC", R"({"cniVersion": "1.1.0", "name": "n",
        "cni.dev/valid-attachments": [{"containerID": 1}]})")));
}

TEST(CniProtocol, body_and_header_round_trip) {
    WireRequest request{{{"CNI_COMMAND", "ADD"}, {"CNI_ARGS", "A=b=c"}}, std::string("{}\0x", 4)};
    const auto back = decode_body(encode_body(request));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->environment, request.environment);
    EXPECT_EQ(back->input, request.input);
    const auto header = decode_header(encode_header({0x01020304, 77}));
    EXPECT_EQ(header.first, 0x01020304U);
    EXPECT_EQ(header.length, 77U);
    EXPECT_FALSE(decode_body("no end"));
    EXPECT_FALSE(decode_body(std::string("no equals\0\0", 11)));
}

} // namespace
} // namespace manx::cni
