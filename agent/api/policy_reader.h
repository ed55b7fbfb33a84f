// SPDX-License-Identifier: Apache-2.0
// What the readers of policy objects share: a cursor over JSON that knows its path, a list of what
// was wrong, and Kubernetes' label selectors. Private to agent/api.
#pragma once

#include "agent/api/policy.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace manx::api {

struct ReadProblems {
    std::vector<std::string> all;

    void add(const std::string& path, std::string_view what) {
        all.push_back(fmt::format("{}: {}", path, what));
    }
};

// A value somewhere in an object. Reads of the wrong type add a problem and give a default.
class Cursor {
public:
    Cursor(const nlohmann::json* value, std::string path, ReadProblems& problems)
        : value_(value), path_(std::move(path)), problems_(&problems) {}

    [[nodiscard]] bool present() const { return value_ != nullptr && !value_->is_null(); }

    [[nodiscard]] const nlohmann::json& value() const { return *value_; }

    [[nodiscard]] const std::string& path() const { return path_; }

    [[nodiscard]] ReadProblems& problems() const { return *problems_; }

    void wrong(std::string_view what) const { problems_->add(path_, what); }

    [[nodiscard]] Cursor at(const char* name) const;
    // Every member that is not known is a problem.
    void only(std::initializer_list<std::string_view> known) const;

    [[nodiscard]] std::string text() const; // empty where absent
    [[nodiscard]] bool flag() const;        // false where absent
    [[nodiscard]] std::optional<double> number() const;
    [[nodiscard]] std::optional<int64_t> integer(int64_t min, int64_t max) const;
    [[nodiscard]] Selector selector() const;

    [[nodiscard]] std::vector<Cursor> items() const; // none where absent

private:
    const nlohmann::json* value_;
    std::string path_;
    ReadProblems* problems_;
};

struct PolicyName {
    std::string ns;
    std::string name;
};

// From the metadata in either form (annotation projectcalico.org/metadata merged).
Result<PolicyName> read_policy_name(Kind kind, const nlohmann::json& object);

// metav1.LabelSelector; an empty one is all(). An operator that is not known is a problem, and the
// term is left out (so a subject selects more, never less).
Selector read_label_selector(const Cursor& cursor);

std::optional<Cidr> read_cidr(const Cursor& cursor);
std::optional<uint8_t> read_protocol(const Cursor& cursor);

// Sorts ranges, and joins those that touch.
void normalize(PortMatch& ports);

// What remains of a direction in which a rule was not understood: the policy isolates. Rules that
// deny stay; where a rule that was not understood could have denied, everything is denied.
void isolate(std::vector<PolicyRule>& rules, bool could_deny);

} // namespace manx::api
