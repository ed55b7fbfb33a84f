// SPDX-License-Identifier: Apache-2.0
// Objects that were understood in part: by name, with the fields that are wrong. Each is logged
// once, and again when its text changes.
//
// Threading: the loop's thread.
#pragma once

#include "agent/datastore/store.h"

#include <map>
#include <string>
#include <vector>

namespace manx::app {

class ObjectProblems {
public:
    // problems: each names its field; none: the object is well again.
    void report(const datastore::Key& key, const std::vector<std::string>& problems);

    void forget(const datastore::Key& key) { all_.erase(key); }

    [[nodiscard]] const std::map<datastore::Key, std::string>& all() const { return all_; }

private:
    std::map<datastore::Key, std::string> all_;
};

} // namespace manx::app
