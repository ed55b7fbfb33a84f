// SPDX-License-Identifier: Apache-2.0
#include "agent/app/policy_names.h"

#include <utility>

namespace manx::app {

bool PolicyNames::put(const datastore::Key& stored, const std::string& name) {
    Forms& forms = policies_[{stored.kind, stored.ns, name}];
    if (name == stored.name) {
        forms.own = true;
        return true;
    }
    forms.other = true;
    names_of_others_[stored] = name;
    return !forms.own;
}

std::optional<std::string> PolicyNames::remove(const datastore::Key& stored) {
    auto renamed = names_of_others_.extract(stored);
    std::string name = renamed ? std::move(renamed.mapped()) : stored.name;
    const auto at = policies_.find({stored.kind, stored.ns, name});
    if (at == policies_.end()) {
        return name;
    }
    Forms& forms = at->second;
    if (renamed) {
        forms.other = false;
    } else {
        forms.own = false;
    }
    if (forms.own || forms.other) {
        return std::nullopt;
    }
    policies_.erase(at);
    return name;
}

} // namespace manx::app
