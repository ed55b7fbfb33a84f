// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/plugin/json_scan.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace manx::cni::plugin {
namespace {

TEST(JsonScan, finds_keys_of_the_outermost_object_only) {
    const char* text = R"( { "prevResult" : {"cniVersion": "9", "x": ["socket", {"socket": "no"}]},
        "n": -1.5e3, "t": true, "cniVersion":"1.0.0", "last": null, "socket" : "/a\/b\"c" } )";
    EXPECT_EQ(top_level_string(text, "cniVersion"), "1.0.0");
    EXPECT_EQ(top_level_string(text, "socket"), "/a/b\"c");
    EXPECT_FALSE(top_level_string(text, "n"));
    EXPECT_FALSE(top_level_string(text, "x"));
    EXPECT_FALSE(top_level_string(text, "absent"));
}

TEST(JsonScan, what_is_no_json_gives_nothing) {
    for (const char* text : {"", "{", "[]", "{\"a\"", "{\"a\":", "{\"a\":\"b", "{\"a\":{", "\"a\"",
                             "{\"b\":1,\"a\":\"\\u0041\"}", "{\"a\":\"x\\", "null", "}"}) {
        EXPECT_FALSE(top_level_string(text, "a")) << text;
    }
}

// Every prefix of a configuration, for reads past its end.
TEST(JsonScan, any_prefix_is_safe) {
    const std::string text =
        R"({"a\"": [1, "x\\", {"b": "]}"}], "cniVersion": "1.1.0", "c": {"d": []}})";
    for (size_t n = 0; n <= text.size(); ++n) {
        const std::string part = text.substr(0, n);
        const auto found = top_level_string(part, "cniVersion");
        if (found) {
            EXPECT_EQ(*found, "1.1.0");
        }
    }
    EXPECT_TRUE(top_level_string(text, "cniVersion"));
}

TEST(JsonScan, quoted_text_reads_back) {
    const std::string text = "say \"no\" \\ \n\t\x01 end";
    EXPECT_EQ(nlohmann::json::parse(plugin::quoted(text)), text);
}

} // namespace
} // namespace manx::cni::plugin
