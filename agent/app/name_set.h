// SPDX-License-Identifier: Apache-2.0
// The names of one kind's objects, for thousands of objects in little memory: one sorted array of
// texts. Each is marked when a list has seen it, so that what a list did not see can be taken out.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace manx::app {

class NameSet {
public:
    // New names are seen.
    void insert(std::string_view ns, std::string_view name);
    // Seen by the list, if it is there. Whether it is.
    bool mark(std::string_view ns, std::string_view name);
    // Whether it was there.
    bool erase(std::string_view ns, std::string_view name);

    void begin_list();
    // Takes out what was neither inserted nor marked since begin_list(): namespaces and names.
    std::vector<std::pair<std::string, std::string>> end_list();

    [[nodiscard]] size_t size() const { return names_.size(); }

private:
    // A mark, and "namespace\1name", which sorts by namespace first.
    using Entry = std::unique_ptr<char[]>;

    // Where it is, or would be.
    [[nodiscard]] std::vector<Entry>::iterator find(const std::string& text);
    [[nodiscard]] bool is_at(std::vector<Entry>::iterator at, const std::string& text) const;

    std::vector<Entry> names_;
};

} // namespace manx::app
