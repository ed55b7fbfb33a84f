// SPDX-License-Identifier: Apache-2.0
// A small cluster's objects in a store: one node, an IPv4 and an IPv6 pool, pods.
#pragma once

#include "agent/datastore/store.h"
#include "base/result.h"

#include <nlohmann/json.hpp>

#include <string>

namespace manx::test {

inline Result<void> put(datastore::Store& store, api::Kind kind, const std::string& ns,
                        const std::string& name, nlohmann::json rest) {
    const auto& info = api::info(kind);
    rest["apiVersion"] = info.api_version;
    rest["kind"] = info.name;
    rest["metadata"]["name"] = name;
    if (!ns.empty()) {
        rest["metadata"]["namespace"] = ns;
    }
    auto made = store.create({kind, ns, name}, rest);
    if (!made && made.error().kind != ErrorKind::AlreadyExists) {
        return Unexpected(made.error());
    }
    return {};
}

inline Result<void> put_pod(datastore::Store& store, const std::string& node,
                            const std::string& name, nlohmann::json annotations = {}) {
    nlohmann::json pod = {{"metadata", {{"labels", {{"app", "test"}}}}},
                          {"spec",
                           {{"nodeName", node},
                            {"serviceAccountName", "default"},
                            {"containers", {{{"name", "c"}}}}}}};
    if (!annotations.empty()) {
        pod["metadata"]["annotations"] = std::move(annotations);
    }
    return put(store, api::Kind::Pod, "default", name, std::move(pod));
}

inline Result<void> put_pool(datastore::Store& store, const std::string& name,
                             const std::string& cidr, unsigned block_size) {
    return put(store, api::Kind::IpPool, "", name,
               {{"spec", {{"cidr", cidr}, {"blockSize", block_size}, {"natOutgoing", true}}}});
}

inline Result<void> seed_cluster(datastore::Store& store, const std::string& node, int pods) {
    TRY(put(store, api::Kind::Node, "", node, nlohmann::json::object()));
    TRY(put(store, api::Kind::Namespace, "", "default", nlohmann::json::object()));
    TRY(put_pool(store, "pool4", "10.65.0.0/16", 26));
    TRY(put_pool(store, "pool6", "fd00:10:65::/64", 122));
    for (int i = 0; i < pods; ++i) {
        TRY(put_pod(store, node, "pod-" + std::to_string(i)));
    }
    return {};
}

} // namespace manx::test
