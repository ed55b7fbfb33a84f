// SPDX-License-Identifier: Apache-2.0
#include "agent/app/datastore_lock.h"

namespace manx::app {

namespace {

constexpr const char* kName = "default";

} // namespace

void DatastoreLock::upsert(const api::ClusterInformation& object) {
    if (object.meta.name == kName) {
        ready_ = object.datastore_ready;
    }
}

void DatastoreLock::remove(const std::string& name) {
    if (name == kName) {
        ready_.reset();
    }
}

std::string DatastoreLock::reason(const std::map<datastore::Key, std::string>& invalid) const {
    if (ready_) {
        return *ready_ ? ""
                       : "the datastore is locked: ClusterInformation default: "
                         "spec.datastoreReady is not true";
    }
    auto unread = invalid.find({api::Kind::ClusterInformation, "", kName});
    return unread == invalid.end()
               ? ""
               : "whether the datastore is locked is not known: " + unread->second;
}

} // namespace manx::app
