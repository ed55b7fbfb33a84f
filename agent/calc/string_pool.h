// SPDX-License-Identifier: Apache-2.0
// Strings stored once and named by a number. Counted: a string whose last user released it is gone.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace manx::calc {

using StringId = uint32_t;

class StringPool {
public:
    StringId acquire(std::string_view text) {
        if (const auto found = ids_.find(text); found != ids_.end()) {
            ++entries_[found->second].users;
            return found->second;
        }
        StringId id = 0;
        if (free_.empty()) {
            id = static_cast<StringId>(entries_.size());
            entries_.emplace_back();
        } else {
            id = free_.back();
            free_.pop_back();
        }
        entries_[id].text = text;
        entries_[id].users = 1;
        ids_.emplace(entries_[id].text, id);
        return id;
    }

    void retain(StringId id) { ++entries_[id].users; }

    void release(StringId id) {
        Entry& entry = entries_[id];
        if (--entry.users == 0) {
            ids_.erase(entry.text);
            entry.text = std::string();
            free_.push_back(id);
        }
    }

    [[nodiscard]] std::optional<StringId> find(std::string_view text) const {
        const auto found = ids_.find(text);
        return found == ids_.end() ? std::nullopt : std::optional(found->second);
    }

    [[nodiscard]] std::string_view text(StringId id) const { return entries_[id].text; }

private:
    struct Entry {
        std::string text;
        uint32_t users = 0;
    };

    std::deque<Entry> entries_; // stable: ids_ keys view the texts
    std::unordered_map<std::string_view, StringId> ids_;
    std::vector<StringId> free_;
};

} // namespace manx::calc
