// SPDX-License-Identifier: Apache-2.0
// What objects in force ask for that is not done here (agent/api/not_enforced.h), by object. Each
// object is one log line, and another when what it asks for changes.
//
// Threading: the loop's thread.
#pragma once

#include "agent/api/not_enforced.h"
#include "agent/datastore/store.h"

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <vector>

namespace manx::app {

class Unenforced {
public:
    // None: the object asks for nothing of the kind, or not any more.
    void report(const datastore::Key& key, std::vector<api::NotEnforced> fields);

    void forget(const datastore::Key& key) { all_.erase(key); }

    // Objects that ask for something.
    [[nodiscard]] size_t size() const { return all_.size(); }

    // [{"kind", "namespace", "name", "field", "meaning"}], by object.
    [[nodiscard]] nlohmann::json to_json() const;

private:
    std::map<datastore::Key, std::vector<api::NotEnforced>> all_;
};

} // namespace manx::app
