// SPDX-License-Identifier: Apache-2.0
// The datastore as Manx sees it: objects by kind, namespace and name, compare-and-swap on one
// object at a time, and watches. Two engines: the Kubernetes API server, and an SQLite file.
// Nothing above this interface knows which one it is, and nothing above may rely on what only one
// of them gives (no transactions over several objects).
//
// Threading: calls block and may come from any thread. Watch callbacks run on a thread of the
// store; a caller posts them to its own loop.
#pragma once

#include "agent/api/kind.h"
#include "base/result.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace manx::datastore {

struct Key {
    api::Kind kind{};
    std::string ns; // empty for cluster-scoped kinds
    std::string name;

    auto operator<=>(const Key&) const = default;
    // "IPPool default-pool", "Pod ns/name"; the kind's title, so no two keys have one text.
    [[nodiscard]] std::string text() const;
};

// An object as the datastore holds it: the whole JSON with apiVersion, kind, metadata (with
// resourceVersion, uid, creationTimestamp set by the store) and spec/status.
struct Object {
    Key key;
    std::string json;
    std::string resource_version; // opaque; metadata.resourceVersion
    std::string uid;              // metadata.uid
};

struct ListResult {
    std::vector<Object> objects;  // by namespace, then name
    std::string resource_version; // of the whole list: where a watch goes on
};

struct ListOptions {
    std::string ns;                            // empty: all
    std::map<std::string, std::string> labels; // equal on metadata.labels, all of them
};

enum class EventType { Added, Modified, Deleted };

struct Event {
    EventType type{};
    Object object; // Deleted: the last state
};

// Callbacks of a watch. After `synced` everything that the list held has been delivered as Added;
// it comes again after a lost watch was re-listed: what was not delivered since `relist` is gone.
struct WatchHandler {
    std::function<void()> relist;
    std::function<void(Event)> event;
    std::function<void()> synced;
    std::function<void(const Error&)> lost; // the store goes on retrying by itself
};

class Watch {
public:
    Watch() = default;
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    virtual ~Watch() = default; // no callback runs after it returned
};

struct Precondition {
    std::string uid;              // empty: any
    std::string resource_version; // empty: any
};

class Store {
public:
    Store() = default;
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;
    virtual ~Store() = default;

    // NotFound.
    virtual Result<Object> get(const Key& key) = 0;
    virtual Result<ListResult> list(api::Kind kind, const ListOptions& options = {}) = 0;
    // AlreadyExists. Sets uid, resourceVersion, creationTimestamp; returns what was stored.
    virtual Result<Object> create(const Key& key, const nlohmann::json& object) = 0;
    // NotFound, Conflict. With a metadata.resourceVersion in the object: only if it is still the
    // stored one; without: unconditional. uid and creationTimestamp stay.
    virtual Result<Object> update(const Key& key, const nlohmann::json& object) = 0;
    // RFC 7386 merge patch on the object (Pod and Node annotations, status). NotFound, Conflict.
    virtual Result<Object> patch(const Key& key, const nlohmann::json& merge_patch,
                                 const Precondition& precondition = {}) = 0;
    // NotFound, Conflict (precondition).
    virtual Result<void> remove(const Key& key, const Precondition& precondition = {}) = 0;
    // List, then watch for ever: one kind, all namespaces.
    virtual Result<std::unique_ptr<Watch>> watch(api::Kind kind, WatchHandler handler) = 0;
    // Calls fn, on a thread of the store, once every watch of this store has delivered all that was
    // in the datastore when this was called: what the caller has read before is among it. So it
    // says how far a watch is without comparing resource versions, which are opaque. Waits while
    // the datastore is not there; never calls it when the store goes before.
    virtual void when_delivered(std::function<void()> fn) = 0;
};

} // namespace manx::datastore
