// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/filters.h"
#include "tests/unit/bgp_support.h"

#include <gmock/gmock.h>

namespace manx::bgp {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Community community(std::string_view text) {
    return Community::parse(text).value();
}

TEST(BgpFilter, CommunitiesAreReadStrictly) {
    EXPECT_EQ(community("64601:14").parts, (std::vector<uint32_t>{64601, 14}));
    EXPECT_EQ(community("4200000000:1:2").parts, (std::vector<uint32_t>{4200000000U, 1, 2}));
    for (const char* text : {"", "1", "1:", ":1", "1:2:3:4", "65536:1", "1:70000", "a:b", "-1:2",
                             "4294967296:1:1", "1:2 "}) {
        EXPECT_FALSE(Community::parse(text)) << text;
    }
}

TEST(BgpFilter, FunctionNamesAreBoundedAndDistinct) {
    EXPECT_EQ(filter_function_name("my-filter.x", Family::V4, true),
              "bgp_my-filter.x_exportFilterV4");
    std::string stem(80, 'a');
    auto one = filter_function_name(stem + "1", Family::V6, false);
    auto two = filter_function_name(stem + "2", Family::V6, false);
    EXPECT_EQ(one.size(), 45U);
    EXPECT_NE(one, two);
    EXPECT_THAT(one, testing::EndsWith("_importFilterV6"));
}

struct RuleCase {
    const char* name;
    FilterRule rule;
    bool is_export;
    const char* text; // the statement
};

class BgpFilterRule : public testing::TestWithParam<RuleCase> {};

TEST_P(BgpFilterRule, RendersAndBirdReadsIt) {
    Inputs in = small_cluster();
    Filter filter{.name = "f"};
    (GetParam().is_export ? filter.export_v4 : filter.import_v4) = {GetParam().rule};
    in.filters = {filter};
    Peer p = peer_ip("p", "203.0.113.1", 65001);
    p.filters = {"f", "absent"};
    in.peers = {p};
    auto rendered = render(in);
    EXPECT_THAT(rendered.problems, IsEmpty());
    const char* head = GetParam().is_export ? "function 'bgp_f_exportFilterV4'(bool internal_peer)"
                                            : "function 'bgp_f_importFilterV4'(bool internal_peer)";
    EXPECT_EQ(block(rendered.text, head), std::string(head) + " {\n" + GetParam().text + "\n}\n");
    EXPECT_THAT(session(rendered.text, "Global_203_0_113_1"),
                HasSubstr(GetParam().is_export
                              ? "      manx_export_metric_v4();\n      "
                                "'bgp_f_exportFilterV4'(false);\n      manx_export_v4(false);\n"
                              : "    import filter {\n      'bgp_f_importFilterV4'(false);\n"));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, BgpFilterRule,
    testing::Values(
        RuleCase{"accept_all", {.accept = true}, false, "  if true then accept;"},
        RuleCase{"equal",
                 {.cidr = cidr("10.0.0.0/8"), .match = MatchOperator::Equal},
                 true,
                 "  if (net = 10.0.0.0/8) then reject;"},
        RuleCase{"not_equal",
                 {.cidr = cidr("10.0.0.0/8"), .match = MatchOperator::NotEqual},
                 true,
                 "  if (net != 10.0.0.0/8) then reject;"},
        RuleCase{"in",
                 {.cidr = cidr("10.0.0.0/8"), .match = MatchOperator::In, .accept = true},
                 true,
                 "  if (net ~ [ 10.0.0.0/8+ ]) then accept;"},
        RuleCase{"not_in_with_lengths",
                 {.cidr = cidr("10.0.0.0/8"),
                  .match = MatchOperator::NotIn,
                  .min_length = 16,
                  .max_length = 24},
                 true,
                 "  if (net !~ [ 10.0.0.0/8{16,24} ]) then reject;"},
        RuleCase{"in_with_minimum",
                 {.cidr = cidr("10.0.0.0/8"), .min_length = 16},
                 true,
                 "  if (net ~ [ 10.0.0.0/8{16,32} ]) then reject;"},
        RuleCase{"source_and_interface",
                 {.from_remote_peers = true, .interface = "eth*"},
                 true,
                 "  if (source = RTS_BGP) && (ifname ~ \"eth*\") then reject;"},
        RuleCase{"peer_type", {.internal_peer = false}, true, "  if (!internal_peer) then reject;"},
        RuleCase{"community_and_path",
                 {.community = community("65000:42"), .as_path_prefix = {65000, 65001}},
                 false,
                 "  if ((65000, 42) ~ bgp_community) && (bgp_path ~ [= 65000 65001 * =]) then "
                 "reject;"},
        RuleCase{"large_community",
                 {.community = community("65000:1:2")},
                 false,
                 "  if ((65000, 1, 2) ~ bgp_large_community) then reject;"},
        RuleCase{"priority_in",
                 {.priority = 512},
                 false,
                 "  if (bgp_local_pref = 2147483135) then reject;"},
        RuleCase{"priority_out", {.priority = 512}, true, "  if (krt_metric = 512) then reject;"},
        RuleCase{"operations_out",
                 {.accept = true,
                  .operations = {{.add_community = community("65000:1")},
                                 {.add_community = community("65000:1:2")},
                                 {.prepend_as_path = {65000, 65001}},
                                 {.set_priority = 100}}},
                 true,
                 "  if true then {\n    bgp_community.add((65000, 1));\n"
                 "    bgp_large_community.add((65000, 1, 2));\n"
                 "    bgp_path.prepend(65001);\n    bgp_path.prepend(65000);\n"
                 "    krt_metric = 100;\n    bgp_local_pref = 2147483547;\n    accept;\n  }"},
        RuleCase{"operations_in",
                 {.accept = true, .operations = {{.set_priority = 512}}},
                 false,
                 "  if true then {\n    bgp_local_pref = 2147483135;\n    preference = 200;\n"
                 "    accept;\n  }"}),
    [](const auto& param) { return param.param.name; });

TEST(BgpFilter, OfTheOtherFamilyIsNotCalled) {
    Inputs in = small_cluster();
    in.filters = {{.name = "six", .import_v6 = {{.cidr = cidr("fd00::/8"), .accept = true}}}};
    Peer p4 = peer_ip("p4", "203.0.113.1", 65001);
    Peer p6 = peer_ip("p6", "2001:db8:1::1", 64512);
    p4.filters = p6.filters = {"six"};
    in.peers = {p4, p6};
    std::string text = render(in).text;
    EXPECT_THAT(session(text, "Global_203_0_113_1"), Not(HasSubstr("bgp_six")));
    EXPECT_THAT(session(text, "Global_2001_db8_1__1"),
                HasSubstr("'bgp_six_importFilterV6'(true);"));
}

TEST(BgpFilter, WrongFilterTakesItsSessionsOutAndIsNamed) {
    Inputs in = small_cluster();
    in.filters = {{.name = "bad", .import_v4 = {{.cidr = cidr("fd00::/8")}}}};
    Peer p = peer_ip("p", "203.0.113.1", 65001);
    p.filters = {"bad"};
    in.peers = {p, peer_ip("q", "203.0.113.2", 65001)};
    auto rendered = render(in);
    EXPECT_THAT(session_names(rendered.text), ElementsAre("Global_203_0_113_2"));
    EXPECT_THAT(rendered.problems,
                ElementsAre(HasSubstr("BGPFilter bad: cidr fd00::/8"), HasSubstr("BGPPeer p")));
    for (FilterRule rule :
         {FilterRule{.min_length = 24, .max_length = 16}, FilterRule{.max_length = 33},
          FilterRule{.interface = "a\" b"}, FilterRule{.priority = 3000000000U}}) {
        EXPECT_FALSE(render_filter_function({.name = "f", .export_v4 = {rule}}, Family::V4, true,
                                            kNormalRoutePriority));
    }
    EXPECT_FALSE(render_filter_function({.name = "a'b"}, Family::V4, true, kNormalRoutePriority));
}

} // namespace
} // namespace manx::bgp
