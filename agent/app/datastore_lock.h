// SPDX-License-Identifier: Apache-2.0
// Whether the cluster's datastore is locked: ClusterInformation "default" is there and does not say
// datastoreReady. A migration is under way then, and nobody takes or gives back addresses. Without
// the object nothing is locked: clusters that no Calico has initialised have none.
//
// Threading: the loop's thread.
#pragma once

#include "agent/api/cluster_information.h"
#include "agent/datastore/store.h"

#include <map>
#include <optional>
#include <string>

namespace manx::app {

class DatastoreLock {
public:
    void upsert(const api::ClusterInformation& object);
    void remove(const std::string& name);

    // Why ADD has to wait; empty: it has not. invalid: objects that cannot be read, with the
    // reason. One that has been read before holds as it was.
    [[nodiscard]] std::string reason(const std::map<datastore::Key, std::string>& invalid) const;

private:
    std::optional<bool> ready_; // of the object, once it has been read
};

} // namespace manx::app
