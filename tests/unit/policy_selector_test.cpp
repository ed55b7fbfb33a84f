// SPDX-License-Identifier: Apache-2.0
#include "agent/api/selector.h"

#include <gtest/gtest.h>

namespace manx::api {
namespace {

struct MatchCase {
    const char* selector;
    LabelMap labels;
    bool matches;
};

class SelectorMatch : public testing::TestWithParam<MatchCase> {};

TEST_P(SelectorMatch, Evaluates) {
    const auto selector = Selector::parse(GetParam().selector);
    ASSERT_TRUE(selector) << selector.error().text();
    EXPECT_EQ(selector->matches(GetParam().labels), GetParam().matches) << GetParam().selector;
    const auto again = Selector::parse(selector->text());
    ASSERT_TRUE(again) << selector->text();
    EXPECT_EQ(again->text(), selector->text());
    EXPECT_EQ(again->matches(GetParam().labels), GetParam().matches) << selector->text();
}

INSTANTIATE_TEST_SUITE_P(
    Language, SelectorMatch,
    testing::Values(
        MatchCase{"", {}, true}, MatchCase{"  \t", {}, true}, MatchCase{"all()", {}, true},
        MatchCase{"has(a)", {{"a", ""}}, true}, MatchCase{"has(a)", {}, false},
        MatchCase{"!has(a)", {}, true}, MatchCase{"!!has(a)", {}, false},
        MatchCase{"a == 'b'", {{"a", "b"}}, true}, MatchCase{"a == 'b'", {}, false},
        MatchCase{"a=='b'", {{"a", "b"}}, true}, MatchCase{"a != 'b'", {}, true},
        MatchCase{"a != 'b'", {{"a", "b"}}, false}, MatchCase{"a in {'b','c'}", {{"a", "c"}}, true},
        MatchCase{"a in {'b','c',}", {{"a", "d"}}, false}, MatchCase{"a in {}", {{"a", ""}}, false},
        MatchCase{"a in {'b'}", {}, false}, MatchCase{"a not in {'b'}", {}, true},
        MatchCase{"a notin {'b'}", {{"a", "b"}}, false},
        MatchCase{"a not in {}", {{"a", "b"}}, true},
        MatchCase{"a contains 'x'", {{"a", "1x2"}}, true}, MatchCase{"a contains ''", {}, false},
        MatchCase{"a starts with 'x'", {{"a", "xy"}}, true},
        MatchCase{"a ends  with \"y\"", {{"a", "xy"}}, true},
        MatchCase{"in in {'in'}", {{"in", "in"}}, true},
        MatchCase{"has(a) || has(b) && has(c)", {{"a", ""}}, true},
        MatchCase{"(has(a) || has(b)) && has(c)", {{"a", ""}}, false},
        MatchCase{"! has(a) && has(b)", {{"b", ""}}, true},
        MatchCase{"!(has(a) && has(b))", {{"b", ""}}, true},
        MatchCase{"a == \"it's\"", {{"a", "it's"}}, true},
        MatchCase{"k8s.io/a-b_c.D == 'x'", {{"k8s.io/a-b_c.D", "x"}}, true}));

TEST(Selector, RejectsWithPosition) {
    for (const auto* bad : {"has (a)",      "all ()",    "a",           "a ==",
                            "a == b",       "a == 'b",   "a in",        "a in {'b'",
                            "a in {,}",     "a &&",      "&& a == 'b'", "(has(a)",
                            "has(a))",      "a = 'b'",   "A LL()",      "has()",
                            "a starts 'x'", "a not 'x'", "has(a)\n",    "a == 'b' c == 'd'",
                            "has(a,b)",     "!"}) {
        const auto selector = Selector::parse(bad);
        EXPECT_FALSE(selector) << bad;
        if (!selector) {
            EXPECT_NE(selector.error().message.find("position"), std::string::npos);
        }
    }
    EXPECT_FALSE(Selector::parse("has(" + std::string(513, 'a') + ")"));
    EXPECT_FALSE(Selector::parse(std::string(100000, '(')));
}

TEST(Selector, CanonicalText) {
    EXPECT_EQ(Selector::parse("a in {'c', 'b','b'}&&!has(x)||all()")->text(),
              "((a in {\"b\", \"c\"} && !has(x)) || all())");
    EXPECT_EQ(Selector::parse("a == '\"'")->text(), "a == '\"'");
}

TEST(Selector, InheritedLabels) {
    const auto of = [](const char* text) {
        return Selector::parse(text)->inherited("pcns.", "projectcalico.org/namespace").text();
    };
    EXPECT_EQ(of("all()"), "has(projectcalico.org/namespace)");
    EXPECT_EQ(of("global()"), "!has(projectcalico.org/namespace)");
    EXPECT_EQ(of("a == 'b' && !has(c)"), "(pcns.a == \"b\" && !has(pcns.c))");
}

TEST(Selector, Required) {
    const auto of = [](const char* text) { return Selector::parse(text)->required(); };
    EXPECT_FALSE(of("all()"));
    EXPECT_FALSE(of("a != 'b'"));
    EXPECT_FALSE(of("a == 'b' || !has(c)"));
    const auto wanted = of("projectcalico.org/orchestrator == 'k8s' && a in {'b','c'} && has(d)");
    ASSERT_TRUE(wanted);
    ASSERT_EQ(wanted->size(), 2U);
    EXPECT_EQ(wanted->at(1).key, "a");
    EXPECT_EQ(*wanted->at(1).value, "c");
}

} // namespace
} // namespace manx::api
