// SPDX-License-Identifier: Apache-2.0
#include "agent/app/object_problems.h"

#include "base/log.h"

#include <fmt/format.h>

#include <set>
#include <string_view>

namespace manx::app {

namespace {

// A reader may ask for a field twice, and find it wrong twice.
std::string joined(const std::vector<std::string>& problems) {
    std::string out;
    std::set<std::string_view> seen;
    for (const auto& problem : problems) {
        if (seen.insert(problem).second) {
            out += (out.empty() ? "" : "; ") + problem;
        }
    }
    return out;
}

std::string_view in_words(InPart does) {
    switch (does) {
    case InPart::Isolates:
        return "policy isolates until it is understood";
    case InPart::KeepsEarlier:
        return "object understood in part, an earlier good state of it stays";
    case InPart::DecidesNothing:
        return "policy understood in part; it decides nothing here";
    }
    return "";
}

// Errors begin with the object's name, where they are read beside it.
std::string_view without_name(std::string_view text, std::string_view name) {
    if (text.starts_with(name) && text.substr(name.size()).starts_with(": ")) {
        text.remove_prefix(name.size() + 2);
    }
    return text;
}

} // namespace

void ObjectProblems::report(const datastore::Key& key, const std::vector<std::string>& problems,
                            InPart does) {
    auto text = joined(problems);
    if (text.empty()) {
        all_.erase(key);
    } else if (auto& known = all_[key]; known != text) {
        known = text;
        log::get("agent")->error("{} object=\"{}\" reason=\"{}\"", in_words(does), key.text(),
                                 text);
    }
}

std::map<std::string, std::string> invalid_objects(const ObjectTexts& refused,
                                                   const ObjectTexts& in_part) {
    std::map<std::string, std::string> out;
    for (const auto* texts : {&in_part, &refused}) {
        for (const auto& [key, reason] : *texts) {
            const auto name = key.text();
            out[name] = without_name(reason, name);
        }
    }
    return out;
}

} // namespace manx::app
