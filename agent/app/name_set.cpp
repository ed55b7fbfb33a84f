// SPDX-License-Identifier: Apache-2.0
#include "agent/app/name_set.h"

#include <algorithm>
#include <cstring>

namespace manx::app {

namespace {

constexpr char kSeen = 'x';
constexpr char kUnseen = '-';
constexpr char kSeparator = '\1'; // before every character of a name

std::string text_of(std::string_view ns, std::string_view name) {
    std::string text;
    text.reserve(ns.size() + name.size() + 1);
    text.append(ns).append(1, kSeparator).append(name);
    return text;
}

} // namespace

std::vector<NameSet::Entry>::iterator NameSet::find(const std::string& text) {
    const auto before = [](const Entry& entry, const std::string& wanted) {
        return std::strcmp(entry.get() + 1, wanted.c_str()) < 0;
    };
    // Lists come in order.
    if (!names_.empty() && before(names_.back(), text)) {
        return names_.end();
    }
    return std::lower_bound(names_.begin(), names_.end(), text, before);
}

bool NameSet::is_at(std::vector<Entry>::iterator at, const std::string& text) const {
    return at != names_.end() && text == at->get() + 1;
}

bool NameSet::mark(std::string_view ns, std::string_view name) {
    const std::string text = text_of(ns, name);
    const auto at = find(text);
    if (!is_at(at, text)) {
        return false;
    }
    (*at)[0] = kSeen;
    return true;
}

void NameSet::insert(std::string_view ns, std::string_view name) {
    const std::string text = text_of(ns, name);
    const auto at = find(text);
    if (is_at(at, text)) {
        (*at)[0] = kSeen;
        return;
    }
    auto entry = std::make_unique<char[]>(text.size() + 2);
    entry[0] = kSeen;
    std::memcpy(entry.get() + 1, text.c_str(), text.size() + 1);
    names_.insert(at, std::move(entry));
}

bool NameSet::erase(std::string_view ns, std::string_view name) {
    const std::string text = text_of(ns, name);
    const auto at = find(text);
    if (!is_at(at, text)) {
        return false;
    }
    names_.erase(at);
    return true;
}

void NameSet::begin_list() {
    for (const auto& entry : names_) {
        entry[0] = kUnseen;
    }
}

std::vector<std::pair<std::string, std::string>> NameSet::end_list() {
    std::vector<std::pair<std::string, std::string>> gone;
    std::erase_if(names_, [&](const Entry& entry) {
        if (entry[0] == kSeen) {
            return false;
        }
        const std::string_view text = entry.get() + 1;
        const size_t separator = text.find(kSeparator);
        gone.emplace_back(text.substr(0, separator), text.substr(separator + 1));
        return true;
    });
    names_.shrink_to_fit();
    return gone;
}

} // namespace manx::app
