// SPDX-License-Identifier: Apache-2.0
#include "agent/api/selector.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace manx::api {

namespace {

constexpr size_t kMaxLabel = 512;
constexpr int kMaxDepth = 200; // parentheses and negations: a bound for the recursion

enum class Op : uint8_t {
    All,
    Global,
    Has,
    Equals,
    NotEquals,
    In,
    NotIn,
    Contains,
    StartsWith,
    EndsWith,
    Not,
    And,
    Or,
};

} // namespace

struct Selector::Body {
    Op op = Op::All;
    std::string key;
    std::vector<std::string> values;                // sorted for In and NotIn
    std::vector<std::shared_ptr<const Body>> parts; // of Not, And, Or
};

namespace {

using Body = Selector::Body;
using BodyPtr = std::shared_ptr<const Body>;

BodyPtr make(Op op, std::string key = {}, std::vector<std::string> values = {},
             std::vector<BodyPtr> parts = {}) {
    auto body = std::make_shared<Body>();
    body->op = op;
    body->key = std::move(key);
    body->values = std::move(values);
    body->parts = std::move(parts);
    return body;
}

std::vector<std::string> sorted_set(std::vector<std::string> values) {
    std::ranges::sort(values);
    values.erase(std::ranges::unique(values).begin(), values.end());
    return values;
}

bool is_label_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '/' || c == '-';
}

// A recursive descent over the text; every method leaves pos_ behind what it took.
class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    Result<BodyPtr> parse() {
        skip_space();
        if (pos_ == text_.size()) {
            return make(Op::All);
        }
        TRY_ASSIGN(BodyPtr body, parse_or());
        skip_space();
        if (pos_ != text_.size()) {
            return expected("an operator or the end");
        }
        return body;
    }

private:
    Unexpected expected(std::string_view what) const {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("selector \"{}\": expected {} at position {}", text_, what, pos_));
    }

    void skip_space() {
        while (pos_ < text_.size() && (text_[pos_] == ' ' || text_[pos_] == '\t')) {
            ++pos_;
        }
    }

    bool take(std::string_view token) {
        skip_space();
        if (text_.substr(pos_).starts_with(token)) {
            pos_ += token.size();
            return true;
        }
        return false;
    }

    // A keyword of letters that must not run on into a longer word.
    bool take_word(std::string_view word) {
        skip_space();
        const auto rest = text_.substr(pos_);
        if (!rest.starts_with(word) ||
            (rest.size() > word.size() && is_label_char(rest[word.size()]))) {
            return false;
        }
        pos_ += word.size();
        return true;
    }

    Result<BodyPtr> parse_group(Op op, std::string_view token, Result<BodyPtr> (Parser::*next)()) {
        std::vector<BodyPtr> parts;
        do {
            TRY_ASSIGN(BodyPtr part, (this->*next)());
            parts.push_back(std::move(part));
        } while (take(token));
        if (parts.size() == 1) {
            return parts.front();
        }
        return make(op, {}, {}, std::move(parts));
    }

    Result<BodyPtr> parse_or() { return parse_group(Op::Or, "||", &Parser::parse_and); }

    Result<BodyPtr> parse_and() { return parse_group(Op::And, "&&", &Parser::parse_unary); }

    Result<BodyPtr> parse_unary() {
        if (++depth_ > kMaxDepth) {
            return expected("a less deeply nested expression");
        }
        bool negate = false;
        while (take("!")) {
            negate = !negate;
        }
        TRY_ASSIGN(BodyPtr atom, parse_atom());
        --depth_;
        if (negate) {
            return make(Op::Not, {}, {}, {std::move(atom)});
        }
        return atom;
    }

    Result<BodyPtr> parse_atom() {
        if (take("(")) {
            TRY_ASSIGN(BodyPtr inner, parse_or());
            if (!take(")")) {
                return expected("\")\"");
            }
            return inner;
        }
        if (take("all()")) {
            return make(Op::All);
        }
        if (take("global()")) {
            return make(Op::Global);
        }
        if (take("has(")) {
            TRY_ASSIGN(std::string key, parse_label());
            if (!take(")")) {
                return expected("\")\" after the label of has(");
            }
            return make(Op::Has, std::move(key));
        }
        TRY_ASSIGN(std::string key, parse_label());
        return parse_operator(std::move(key));
    }

    Result<BodyPtr> parse_operator(std::string key) {
        struct Comparison {
            std::string_view token;
            Op op;
        };

        for (const auto& [token, op] :
             {Comparison{"==", Op::Equals}, Comparison{"!=", Op::NotEquals}}) {
            if (take(token)) {
                return parse_value(op, std::move(key));
            }
        }
        if (take_word("contains")) {
            return parse_value(Op::Contains, std::move(key));
        }
        if (take_word("starts")) {
            return take_word("with") ? parse_value(Op::StartsWith, std::move(key))
                                     : Result<BodyPtr>(expected("\"with\" after starts"));
        }
        if (take_word("ends")) {
            return take_word("with") ? parse_value(Op::EndsWith, std::move(key))
                                     : Result<BodyPtr>(expected("\"with\" after ends"));
        }
        if (take_word("in")) {
            return parse_set(Op::In, std::move(key));
        }
        if (take_word("notin")) {
            return parse_set(Op::NotIn, std::move(key));
        }
        if (take_word("not")) {
            return take_word("in") ? parse_set(Op::NotIn, std::move(key))
                                   : Result<BodyPtr>(expected("\"in\" after not"));
        }
        return expected("an operator after the label \"" + key + "\"");
    }

    Result<BodyPtr> parse_value(Op op, std::string key) {
        TRY_ASSIGN(std::string value, parse_string());
        return make(op, std::move(key), {std::move(value)});
    }

    Result<BodyPtr> parse_set(Op op, std::string key) {
        if (!take("{")) {
            return expected("\"{\"");
        }
        std::vector<std::string> values;
        while (!take("}")) {
            TRY_ASSIGN(std::string value, parse_string());
            values.push_back(std::move(value));
            if (!take(",")) {
                if (!take("}")) {
                    return expected("\",\" or \"}\"");
                }
                break;
            }
        }
        return make(op, std::move(key), sorted_set(std::move(values)));
    }

    Result<std::string> parse_label() {
        skip_space();
        const size_t start = pos_;
        while (pos_ < text_.size() && is_label_char(text_[pos_])) {
            ++pos_;
        }
        if (pos_ == start) {
            return expected("a label");
        }
        if (pos_ - start > kMaxLabel) {
            return expected("a label of at most 512 characters");
        }
        return std::string(text_.substr(start, pos_ - start));
    }

    Result<std::string> parse_string() {
        skip_space();
        if (pos_ >= text_.size() || (text_[pos_] != '"' && text_[pos_] != '\'')) {
            return expected("a quoted string");
        }
        const size_t end = text_.find(text_[pos_], pos_ + 1);
        if (end == std::string_view::npos) {
            return expected("the closing quote of the string");
        }
        std::string value(text_.substr(pos_ + 1, end - pos_ - 1));
        pos_ = end + 1;
        return value;
    }

    std::string_view text_;
    size_t pos_ = 0;
    int depth_ = 0;
};

bool evaluate(const Body& body, const LabelSource& labels) {
    switch (body.op) {
    case Op::All:
    case Op::Global: // only its rewritten form (see inherited) means something
        return true;
    case Op::And:
        return std::ranges::all_of(body.parts,
                                   [&](const auto& part) { return evaluate(*part, labels); });
    case Op::Or:
        return std::ranges::any_of(body.parts,
                                   [&](const auto& part) { return evaluate(*part, labels); });
    case Op::Not:
        return !evaluate(*body.parts.front(), labels);
    default:
        break;
    }
    const auto value = labels.label(body.key);
    switch (body.op) {
    case Op::Has:
        return value.has_value();
    case Op::Equals:
        return value && *value == body.values.front();
    case Op::NotEquals:
        return !value || *value != body.values.front();
    case Op::In:
        return value && std::ranges::binary_search(body.values, *value, std::less<>{});
    case Op::NotIn:
        return !value || !std::ranges::binary_search(body.values, *value, std::less<>{});
    case Op::Contains:
        return value && value->find(body.values.front()) != std::string_view::npos;
    case Op::StartsWith:
        return value && value->starts_with(body.values.front());
    case Op::EndsWith:
        return value && value->ends_with(body.values.front());
    default:
        return false;
    }
}

std::string quote(const std::string& value) {
    const char q = value.find('"') == std::string::npos ? '"' : '\'';
    return q + value + q;
}

std::string quote_set(const std::vector<std::string>& values) {
    std::string out = "{";
    for (const auto& value : values) {
        out += (out.size() > 1 ? ", " : "") + quote(value);
    }
    return out + "}";
}

std::string join(const Body& body, std::string_view token);

std::string print(const Body& body) {
    switch (body.op) {
    case Op::All:
        return "all()";
    case Op::Global:
        return "global()";
    case Op::Has:
        return "has(" + body.key + ")";
    case Op::Equals:
        return body.key + " == " + quote(body.values.front());
    case Op::NotEquals:
        return body.key + " != " + quote(body.values.front());
    case Op::In:
        return body.key + " in " + quote_set(body.values);
    case Op::NotIn:
        return body.key + " not in " + quote_set(body.values);
    case Op::Contains:
        return body.key + " contains " + quote(body.values.front());
    case Op::StartsWith:
        return body.key + " starts with " + quote(body.values.front());
    case Op::EndsWith:
        return body.key + " ends with " + quote(body.values.front());
    case Op::Not:
        return "!" + print(*body.parts.front());
    case Op::And:
        return join(body, " && ");
    case Op::Or:
        return join(body, " || ");
    }
    return {};
}

std::string join(const Body& body, std::string_view token) {
    std::string out = "(";
    for (const auto& part : body.parts) {
        if (out.size() > 1) {
            out += token;
        }
        out += print(*part);
    }
    return out + ")";
}

bool has_global(const Body& body) {
    return body.op == Op::Global ||
           std::ranges::any_of(body.parts, [](const auto& part) { return has_global(*part); });
}

BodyPtr rewrite(const Body& body, std::string_view prefix, std::string_view present) {
    if (body.op == Op::All) {
        return make(Op::Has, std::string(present));
    }
    if (body.op == Op::Global) {
        return make(Op::Not, {}, {}, {make(Op::Has, std::string(present))});
    }
    std::vector<BodyPtr> parts;
    parts.reserve(body.parts.size());
    for (const auto& part : body.parts) {
        parts.push_back(rewrite(*part, prefix, present));
    }
    return make(body.op, body.key.empty() ? std::string() : std::string(prefix) + body.key,
                body.values, std::move(parts));
}

// How much an index gains by a requirement: labels that everything in the cluster carries gain
// least, one value of a user's label most.
int selectivity(const std::vector<LabelRequirement>& wanted) {
    int worst = 4;
    for (const auto& one : wanted) {
        int score = one.value ? 4 : 2;
        if (one.key == "projectcalico.org/orchestrator" ||
            (!one.value && one.key.find("projectcalico.org/") != std::string::npos)) {
            score = 1;
        } else if (one.value &&
                   (one.key == "projectcalico.org/namespace" || one.key.starts_with("pcns."))) {
            score = 3;
        }
        worst = std::min(worst, score);
    }
    return worst;
}

std::optional<std::vector<LabelRequirement>> requirement(const Body& body) {
    std::vector<LabelRequirement> wanted;
    switch (body.op) {
    case Op::Has:
    case Op::Contains:
    case Op::StartsWith:
    case Op::EndsWith:
        wanted.push_back({body.key, std::nullopt});
        return wanted;
    case Op::Equals:
    case Op::In:
        for (const auto& value : body.values) {
            wanted.push_back({body.key, value});
        }
        return wanted; // of an empty set: nothing can match, and nothing needs to be looked at
    case Op::And: {
        std::optional<std::vector<LabelRequirement>> best;
        for (const auto& part : body.parts) {
            auto one = requirement(*part);
            if (one && (!best || selectivity(*one) > selectivity(*best))) {
                best = std::move(one);
            }
        }
        return best;
    }
    case Op::Or:
        for (const auto& part : body.parts) {
            auto one = requirement(*part);
            if (!one) {
                return std::nullopt;
            }
            wanted.insert(wanted.end(), one->begin(), one->end());
        }
        return wanted;
    default:
        return std::nullopt;
    }
}

class MapSource final : public LabelSource {
public:
    explicit MapSource(const LabelMap& labels) : labels_(labels) {}

    [[nodiscard]] std::optional<std::string_view> label(std::string_view key) const override {
        const auto found = labels_.find(std::string(key));
        if (found == labels_.end()) {
            return std::nullopt;
        }
        return found->second;
    }

private:
    const LabelMap& labels_;
};

} // namespace

Result<Selector> Selector::parse(std::string_view text) {
    TRY_ASSIGN(BodyPtr body, Parser(text).parse());
    return body->op == Op::All ? Selector() : Selector(std::move(body));
}

Selector Selector::has(std::string_view key) {
    return Selector(make(Op::Has, std::string(key)));
}

Selector Selector::equals(std::string_view key, std::string_view value) {
    return Selector(make(Op::Equals, std::string(key), {std::string(value)}));
}

Selector Selector::in(std::string_view key, std::vector<std::string> values) {
    return Selector(make(Op::In, std::string(key), sorted_set(std::move(values))));
}

Selector Selector::not_in(std::string_view key, std::vector<std::string> values) {
    return Selector(make(Op::NotIn, std::string(key), sorted_set(std::move(values))));
}

Selector Selector::negated(const Selector& selector) {
    return Selector(make(Op::Not, {}, {}, {selector.body_ ? selector.body_ : make(Op::All)}));
}

Selector Selector::all_of(const std::vector<Selector>& selectors) {
    std::vector<BodyPtr> parts;
    for (const auto& selector : selectors) {
        if (selector.body_) {
            parts.push_back(selector.body_);
        }
    }
    if (parts.empty()) {
        return {};
    }
    if (parts.size() == 1) {
        return Selector(parts.front());
    }
    return Selector(make(Op::And, {}, {}, std::move(parts)));
}

bool Selector::matches(const LabelSource& labels) const {
    return !body_ || evaluate(*body_, labels);
}

bool Selector::matches(const LabelMap& labels) const {
    return !body_ || evaluate(*body_, MapSource(labels));
}

std::string Selector::text() const {
    return body_ ? print(*body_) : "all()";
}

bool Selector::uses_global() const {
    return body_ && has_global(*body_);
}

Selector Selector::inherited(std::string_view prefix, std::string_view present) const {
    return Selector(body_ ? rewrite(*body_, prefix, present) : make(Op::Has, std::string(present)));
}

std::optional<std::vector<LabelRequirement>> Selector::required() const {
    return body_ ? requirement(*body_) : std::nullopt;
}

} // namespace manx::api
