// SPDX-License-Identifier: Apache-2.0
#include "agent/api/policy_reader.h"

#include "agent/api/fields.h"
#include "agent/api/meta.h"

#include <algorithm>
#include <cmath>

namespace manx::api {

Cursor Cursor::at(const char* name) const {
    std::string path = path_.empty() ? std::string(name) : path_ + "." + name;
    if (!present() || !value_->is_object()) {
        return {nullptr, std::move(path), *problems_};
    }
    const auto found = value_->find(name);
    return {found == value_->end() ? nullptr : &*found, std::move(path), *problems_};
}

void Cursor::only(std::initializer_list<std::string_view> known) const {
    if (!present()) {
        return;
    }
    if (!value_->is_object()) {
        wrong("expected an object");
        return;
    }
    for (const auto& [name, ignored] : value_->items()) {
        if (std::ranges::find(known, name) == known.end()) {
            problems_->add(path_ + "." + name, "unknown field");
        }
    }
}

std::string Cursor::text() const {
    if (!present()) {
        return {};
    }
    if (!value_->is_string()) {
        wrong("expected a string");
        return {};
    }
    return value_->get<std::string>();
}

bool Cursor::flag() const {
    if (!present()) {
        return false;
    }
    if (!value_->is_boolean()) {
        wrong("expected true or false");
        return false;
    }
    return value_->get<bool>();
}

std::optional<double> Cursor::number() const {
    if (!present()) {
        return std::nullopt;
    }
    if (!value_->is_number() || !std::isfinite(value_->get<double>())) {
        wrong("expected a number");
        return std::nullopt;
    }
    return value_->get<double>();
}

std::optional<int64_t> Cursor::integer(int64_t min, int64_t max) const {
    if (!present()) {
        return std::nullopt;
    }
    const bool fits = value_->is_number_integer() &&
                      !(value_->is_number_unsigned() && value_->get<uint64_t>() > INT64_MAX);
    const int64_t number = fits ? value_->get<int64_t>() : 0;
    if (!fits || number < min || number > max) {
        wrong(fmt::format("expected an integer from {} to {}", min, max));
        return std::nullopt;
    }
    return number;
}

Selector Cursor::selector() const {
    auto parsed = Selector::parse(text());
    if (!parsed) {
        wrong(parsed.error().message);
        return {};
    }
    return *std::move(parsed);
}

std::vector<Cursor> Cursor::items() const {
    std::vector<Cursor> out;
    if (!present()) {
        return out;
    }
    if (!value_->is_array()) {
        wrong("expected a list");
        return out;
    }
    out.reserve(value_->size());
    for (size_t i = 0; i < value_->size(); ++i) {
        out.emplace_back(&(*value_)[i], fmt::format("{}[{}]", path_, i), *problems_);
    }
    return out;
}

Result<PolicyName> read_policy_name(Kind kind, const nlohmann::json& object) {
    Problems problems;
    problems.subject = subject_of(kind, object);
    const ObjectMeta meta = read_meta(kind, object, problems);
    if (meta.name.empty()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: metadata.name: expected a name", problems.subject));
    }
    if (info(kind).namespaced && meta.ns.empty()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: metadata.namespace: expected a namespace", problems.subject));
    }
    return PolicyName{meta.ns, meta.name};
}

Selector read_label_selector(const Cursor& cursor) {
    cursor.only({"matchLabels", "matchExpressions"});
    std::vector<Selector> terms;
    const auto labels = cursor.at("matchLabels");
    if (labels.present() && !labels.value().is_object()) {
        labels.wrong("expected an object");
    } else if (labels.present()) {
        for (const auto& [key, value] : labels.value().items()) {
            const Cursor one(&value, labels.path() + "." + key, cursor.problems());
            terms.push_back(Selector::equals(key, one.text()));
        }
    }
    for (const auto& expression : cursor.at("matchExpressions").items()) {
        expression.only({"key", "operator", "values"});
        const std::string key = expression.at("key").text();
        const std::string op = expression.at("operator").text();
        std::vector<std::string> values;
        for (const auto& value : expression.at("values").items()) {
            values.push_back(value.text());
        }
        if (key.empty()) {
            expression.at("key").wrong("expected a label");
        } else if (op == "In") {
            terms.push_back(Selector::in(key, std::move(values)));
        } else if (op == "NotIn") {
            terms.push_back(Selector::not_in(key, std::move(values)));
        } else if (op == "Exists") {
            terms.push_back(Selector::has(key));
        } else if (op == "DoesNotExist") {
            terms.push_back(Selector::negated(Selector::has(key)));
        } else {
            expression.at("operator").wrong("expected In, NotIn, Exists or DoesNotExist");
        }
    }
    return Selector::all_of(terms);
}

std::optional<Cidr> read_cidr(const Cursor& cursor) {
    auto cidr = Cidr::parse(cursor.text());
    if (!cidr) {
        cursor.wrong(fmt::format("expected a CIDR: {}", cidr.error().message));
        return std::nullopt;
    }
    return *cidr;
}

std::optional<uint8_t> read_protocol(const Cursor& cursor) {
    if (!cursor.present()) {
        return std::nullopt;
    }
    if (cursor.value().is_number()) {
        const auto number = cursor.integer(1, 255);
        return number ? std::optional(static_cast<uint8_t>(*number)) : std::nullopt;
    }
    const auto protocol = protocol_number(cursor.text());
    if (!protocol) {
        cursor.wrong("expected TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite or 1 to 255");
    }
    return protocol;
}

void normalize(PortMatch& ports) {
    std::ranges::sort(ports.ranges);
    std::vector<PortRange> joined;
    for (const auto& range : ports.ranges) {
        if (!joined.empty() && range.first <= uint32_t{joined.back().last} + 1) {
            joined.back().last = std::max(joined.back().last, range.last);
        } else {
            joined.push_back(range);
        }
    }
    ports.ranges = std::move(joined);
    std::ranges::sort(ports.names);
    ports.names.erase(std::ranges::unique(ports.names).begin(), ports.names.end());
}

void isolate(std::vector<PolicyRule>& rules, bool could_deny) {
    if (could_deny) {
        rules.clear();
        rules.push_back({.action = Action::Deny, .name = "invalid rule: deny"});
        return;
    }
    std::erase_if(rules, [](const PolicyRule& rule) { return rule.action != Action::Deny; });
}

} // namespace manx::api
