// SPDX-License-Identifier: Apache-2.0
#include "agent/app/object_problems.h"

#include "agent/api/policy.h"
#include "base/log.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace manx::app {

void ObjectProblems::report(const datastore::Key& key, const std::vector<std::string>& problems) {
    auto text = fmt::format("{}", fmt::join(problems, "; "));
    if (text.empty()) {
        all_.erase(key);
    } else if (auto& known = all_[key]; known != text) {
        known = text;
        log::get("agent")->error(
            "{} object=\"{}\" reason=\"{}\"",
            api::is_policy(key.kind)
                ? "policy isolates until it is understood"
                : "object understood in part, an earlier good state of it stays",
            key.text(), text);
    }
}

} // namespace manx::app
