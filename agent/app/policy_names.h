// SPDX-License-Identifier: Apache-2.0
// Which stored object speaks for a policy. Calico used to store a policy NAME of the default tier
// as default.NAME; kube-controllers moves such objects by making NAME and deleting default.NAME, so
// for a while both are there, and both are the policy NAME. The newer form speaks, whatever the
// order of events.
//
// Threading: one thread.
#pragma once

#include "agent/datastore/store.h"

#include <map>
#include <optional>
#include <string>

namespace manx::app {

class PolicyNames {
public:
    // An object that came or changed, and the policy's name as it gives it. Whether it is in force:
    // false for an older form beside a newer one.
    bool put(const datastore::Key& stored, const std::string& name);

    // An object that is gone. The policy's name if it is gone with it; nothing if the other form
    // stands for it (as it was last in force, until that changes).
    std::optional<std::string> remove(const datastore::Key& stored);

private:
    struct Forms {
        bool own = false;   // stored under its own name
        bool other = false; // stored under another
    };

    std::map<datastore::Key, Forms> policies_;              // by kind, namespace, policy's name
    std::map<datastore::Key, std::string> names_of_others_; // stored -> policy's name
};

} // namespace manx::app
