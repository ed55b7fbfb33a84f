// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/masquerade.h"

#include <gtest/gtest.h>

#include <sched.h>
#include <thread>

namespace manx::dataplane {
namespace {

std::set<Cidr> cidrs(std::initializer_list<const char*> texts) {
    std::set<Cidr> out;
    for (const char* text : texts) {
        out.insert(*Cidr::parse(text));
    }
    return out;
}

TEST(Masquerade, NoPoolMeansNoTable) {
    EXPECT_EQ(render_masquerade({}, cidrs({"10.0.0.0/8"})),
              "add table inet manx\ndelete table inet manx\n");
}

TEST(Masquerade, CoveredPrefixesAreLeftOut) {
    auto text = render_masquerade(cidrs({"10.65.0.0/16"}),
                                  cidrs({"10.65.0.0/16", "10.65.1.0/24", "fd00::/64"}));
    EXPECT_NE(text.find("set all_pools4 { type ipv4_addr; flags interval; elements = { "
                        "10.65.0.0/16 } }"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("elements = { fd00::/64 }"), std::string::npos) << text;
}

// In a network namespace of its own; the thread leaves it behind.
TEST(Masquerade, NetfilterTakesAndReplacesTheTable) {
    std::string first;
    std::string second;
    std::string third;
    bool entered = false;
    std::thread([&] {
        entered = unshare(CLONE_NEWNET) == 0;
        if (!entered) {
            return;
        }
        Masquerade masquerade;
        auto text = [](const Result<void>& r) { return r ? std::string("ok") : r.error().text(); };
        first = text(masquerade.apply(cidrs({"10.65.0.0/16", "fd00:10::/48"}),
                                      cidrs({"10.65.0.0/16", "10.66.0.0/16", "fd00:10::/48"})));
        second = text(masquerade.apply(cidrs({"10.66.0.0/16"}), cidrs({"10.66.0.0/16"})));
        third = text(masquerade.apply({}, {}));
    }).join();
    if (!entered) {
        GTEST_SKIP() << "no right to make a network namespace";
    }
    EXPECT_EQ(first, "ok");
    EXPECT_EQ(second, "ok");
    EXPECT_EQ(third, "ok");
}

} // namespace
} // namespace manx::dataplane
