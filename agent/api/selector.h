// SPDX-License-Identifier: Apache-2.0
// Calico's selector language: an expression over labels. Used by policies, network sets, pools,
// BGP peers and everything else that chooses objects by label.
//
// Grammar (spaces and tabs only; keywords are case-sensitive; "" is all()):
//   or    := and { "||" and }            and := unary { "&&" unary }      unary := { "!" } atom
//   atom  := "(" or ")" | all() | global() | has(label) | label op
//   op    := == str | != str | in set | not in set | notin set | contains str
//          | starts with str | ends with str
// != and not in match where the label is absent; all other operators need it to be present.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace manx::api {

// Where a selector finds labels: an object's own labels, over the inherited ones.
class LabelSource {
public:
    LabelSource() = default;
    LabelSource(const LabelSource&) = delete;
    LabelSource& operator=(const LabelSource&) = delete;
    virtual ~LabelSource() = default;
    [[nodiscard]] virtual std::optional<std::string_view> label(std::string_view key) const = 0;
};

using LabelMap = std::map<std::string, std::string>;

// A label that must be there (with that value) for a selector to match.
struct LabelRequirement {
    std::string key;
    std::optional<std::string> value;
};

// Immutable; copies share the expression.
class Selector {
public:
    Selector() = default; // all()
    static Result<Selector> parse(std::string_view text);

    static Selector has(std::string_view key);
    static Selector equals(std::string_view key, std::string_view value);
    static Selector in(std::string_view key, std::vector<std::string> values);
    static Selector not_in(std::string_view key, std::vector<std::string> values);
    static Selector negated(const Selector& selector);
    // && of all that are not all().
    static Selector all_of(const std::vector<Selector>& selectors);

    [[nodiscard]] bool matches(const LabelSource& labels) const;
    [[nodiscard]] bool matches(const LabelMap& labels) const;

    // Canonical text: groups of && and || in parentheses, sets sorted and without doubles. Equal
    // texts match the same objects.
    [[nodiscard]] std::string text() const;

    [[nodiscard]] bool is_all() const { return body_ == nullptr; }

    [[nodiscard]] bool uses_global() const;

    // The selector on labels that are inherited under a prefix ("pcns.", "pcsa."): every label is
    // prefixed, all() becomes has(present), global() becomes !has(present).
    [[nodiscard]] Selector inherited(std::string_view prefix, std::string_view present) const;

    // A set of labels of which at least one is there whenever the selector matches: what an index
    // needs. nullopt: no such set (the selector can match without any label).
    [[nodiscard]] std::optional<std::vector<LabelRequirement>> required() const;

    bool operator==(const Selector& other) const { return text() == other.text(); }

    struct Body;

private:
    explicit Selector(std::shared_ptr<const Body> body) : body_(std::move(body)) {}

    std::shared_ptr<const Body> body_; // null: all()
};

} // namespace manx::api
