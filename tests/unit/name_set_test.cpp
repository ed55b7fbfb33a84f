// SPDX-License-Identifier: Apache-2.0
#include "agent/app/name_set.h"

#include <gtest/gtest.h>

namespace manx::app {
namespace {

using Gone = std::vector<std::pair<std::string, std::string>>;

TEST(NameSetTest, TellsWhatAListDidNotSee) {
    NameSet set;
    set.insert("b", "one");
    set.insert("a-x", "two");
    set.insert("a", "three");
    set.insert("", "cluster");
    set.insert("a", "three");
    EXPECT_EQ(set.size(), 4U);
    set.begin_list();
    set.insert("", "cluster");
    set.mark("a", "three");
    set.mark("a", "unknown");
    set.insert("c", "new");
    EXPECT_EQ(set.end_list(), (Gone{{"a-x", "two"}, {"b", "one"}}));
    EXPECT_EQ(set.size(), 3U);
    EXPECT_TRUE(set.erase("a", "three"));
    EXPECT_FALSE(set.erase("a", "three"));
    EXPECT_FALSE(set.erase("a", "unknown"));
    set.begin_list();
    EXPECT_EQ(set.end_list(), (Gone{{"", "cluster"}, {"c", "new"}}));
    EXPECT_EQ(set.size(), 0U);
}

TEST(NameSetTest, AnyOrder) {
    NameSet set;
    for (int i = 0; i < 1000; i++) {
        set.insert("ns", std::to_string(i * 37 % 1000));
    }
    EXPECT_EQ(set.size(), 1000U);
    for (int i = 0; i < 1000; i += 2) {
        EXPECT_TRUE(set.erase("ns", std::to_string(i)));
    }
    set.begin_list();
    EXPECT_EQ(set.end_list().size(), 500U);
}

} // namespace
} // namespace manx::app
