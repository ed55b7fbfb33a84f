// SPDX-License-Identifier: Apache-2.0
#include "agent/app/unenforced.h"

#include "base/log.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <string>
#include <utility>

namespace manx::app {

void Unenforced::report(const datastore::Key& key, std::vector<api::NotEnforced> fields) {
    if (fields.empty()) {
        all_.erase(key);
        return;
    }
    auto& known = all_[key];
    if (known == fields) {
        return;
    }
    known = std::move(fields);
    std::string text;
    for (const auto& one : known) {
        text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", one.field, one.meaning);
    }
    log::get("agent")->warn("not enforced object=\"{}\" fields=\"{}\"", key.text(), text);
}

nlohmann::json Unenforced::to_json() const {
    nlohmann::json out = nlohmann::json::array();
    for (const auto& [key, fields] : all_) {
        for (const auto& one : fields) {
            out.push_back({{"kind", api::title(key.kind)},
                           {"namespace", key.ns},
                           {"name", key.name},
                           {"field", one.field},
                           {"meaning", one.meaning}});
        }
    }
    return out;
}

} // namespace manx::app
