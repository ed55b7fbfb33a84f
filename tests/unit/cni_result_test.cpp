// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/error.h"
#include "agent/cni/result.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace manx::cni {
namespace {

using nlohmann::json;

AddResult sample() {
    AddResult result;
    result.interfaces = {{"cali1", "ee:ee:ee:ee:ee:ee", 1500, ""},
                         {"eth0", "02:00:00:00:00:01", 1500, "/run/netns/x"}};
    result.ips = {{*InterfaceAddress::parse("192.0.2.1/32"), {}, 1},
                  {*InterfaceAddress::parse("2001:db8::1/128"), {}, 1}};
    return result;
}

TEST(CniResult, shape_of_each_version) {
    const auto newest = json::parse(render_result("1.1.0", sample()));
    EXPECT_EQ(newest, json::parse(R"({"cniVersion": "1.1.0", "dns": {}, "interfaces":
        [{"name": "cali1", "mac": "ee:ee:ee:ee:ee:ee", "mtu": 1500},
         {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "sandbox": "/run/netns/x"}],
        "ips": [{"address": "192.0.2.1/32", "interface": 1},
                {"address": "2001:db8::1/128", "interface": 1}]})"));
    const auto one = json::parse(render_result("1.0.0", sample()));
    EXPECT_FALSE(one["interfaces"][0].contains("mtu"));
    EXPECT_FALSE(one["ips"][0].contains("version"));
    for (const char* version : {"0.3.0", "0.3.1", "0.4.0"}) {
        const auto older = json::parse(render_result(version, sample()));
        EXPECT_EQ(older["cniVersion"], version);
        EXPECT_EQ(older["ips"][0]["version"], "4");
        EXPECT_EQ(older["ips"][1]["version"], "6");
    }
    for (const char* version : {"0.1.0", "0.2.0"}) {
        const auto oldest = json::parse(render_result(version, sample()));
        EXPECT_EQ(oldest, json::parse(std::string(R"({"cniVersion": ")") + version +
                                      R"(", "dns": {}, "ip4": {"ip": "192.0.2.1/32"},
                                          "ip6": {"ip": "2001:db8::1/128"}})"));
    }
}

TEST(CniResult, earlier_result_of_any_version_comes_first) {
    auto previous = parse_result(json::parse(R"({"cniVersion": "0.2.0",
        "ip4": {"ip": "198.51.100.2/24", "gateway": "198.51.100.1",
                "routes": [{"dst": "0.0.0.0/0"}]},
        "dns": {"nameservers": ["192.0.2.53"]}})"));
    ASSERT_TRUE(previous) << previous.error().text();
    const auto all = json::parse(render_result("1.0.0", append(*previous, sample())));
    EXPECT_EQ(all["ips"].size(), 3U);
    EXPECT_EQ(all["ips"][0]["gateway"], "198.51.100.1");
    EXPECT_EQ(all["ips"][1]["interface"], 1);
    EXPECT_EQ(all["routes"][0]["dst"], "0.0.0.0/0");
    EXPECT_EQ(all["dns"]["nameservers"][0], "192.0.2.53");
}

TEST(CniResult, broken_results_are_refused_by_field) {
    for (const auto& [text, field] : std::vector<std::pair<const char*, const char*>>{
             {R"([])", "prevResult"},
             {R"({"ips": {}})", "prevResult.ips"},
             {R"({"ips": [{"address": "x"}]})", "prevResult.ips[0].address"},
             {R"({"ips": [{"address": "192.0.2.1/24", "interface": 1}]})", "ips[0].interface"},
             {R"({"interfaces": [{}]})", "prevResult.interfaces"},
             {R"({"routes": [{"dst": "x"}]})", "prevResult.routes[0].dst"},
             {R"({"ip4": {"ip": "1"}})", "prevResult.ip4.ip"}}) {
        const auto parsed = parse_result(json::parse(text));
        ASSERT_FALSE(parsed) << text;
        EXPECT_THAT(parsed.error().message, testing::HasSubstr(field));
    }
}

TEST(CniErrors, codes_by_kind) {
    EXPECT_EQ(to_cni_error({ErrorKind::Unavailable, 0, "x"}).code, Code::TryAgainLater);
    EXPECT_EQ(to_cni_error({ErrorKind::Conflict, 0, "x"}).code, Code::TryAgainLater);
    EXPECT_EQ(to_cni_error({ErrorKind::ConfigReality, 0, "x"}).code, Code::TryAgainLater);
    EXPECT_EQ(to_cni_error({ErrorKind::ConfigInvalid, 0, "x"}).code, Code::InvalidConfig);
    EXPECT_EQ(to_cni_error({ErrorKind::Exhausted, 0, "x"}).code, Code::NoAddress);
    const auto text =
        json::parse(render_error("1.0.0", {Code::TryAgainLater, "say \"no\"\n\xff", "more"}));
    EXPECT_EQ(text["code"], 11);
    EXPECT_EQ(text["cniVersion"], "1.0.0");
    EXPECT_EQ(text["details"], "more");
}

} // namespace
} // namespace manx::cni
