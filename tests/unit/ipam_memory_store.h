// SPDX-License-Identifier: Apache-2.0
// A Store in memory for IPAM's tests, with what they need to be cruel: a hook before and after
// every call, which may throw (the process dies there), refuse, or let other things happen first.
#pragma once

#include "agent/api/meta.h"
#include "agent/datastore/store.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace manx::ipam::test {

struct Died {}; // thrown by hooks: the process was killed at this point

enum class Call { Get, List, Create, Update, Remove };

inline bool is_write(Call call) {
    return call == Call::Create || call == Call::Update || call == Call::Remove;
}

// The shared state; many stores (one per process) look at it.
struct Memory {
    struct Entry {
        nlohmann::json object;
        std::string text; // of the object; test code that changes it by hand goes through update()
        uint64_t revision = 0;
        std::string uid;
    };

    std::map<datastore::Key, Entry> entries;
    uint64_t revision = 0;
    std::mutex mutex;
    std::map<Call, uint64_t> calls;

    [[nodiscard]] uint64_t writes() const {
        uint64_t sum = 0;
        for (const auto& [call, count] : calls) {
            sum += is_write(call) ? count : 0;
        }
        return sum;
    }
};

class MemoryStore : public datastore::Store {
public:
    using Key = datastore::Key;
    using Object = datastore::Object;
    // Before: an error refuses the call. After: the call has happened.
    using Before = std::function<std::optional<Error>(Call, const Key&)>;
    using After = std::function<std::optional<Error>(Call, const Key&)>;

    explicit MemoryStore(std::shared_ptr<Memory> memory) : memory_(std::move(memory)) {}

    Before before;
    After after;

    Result<Object> get(const Key& key) override {
        return guarded<Object>(Call::Get, key, [&]() -> Result<Object> {
            auto found = memory_->entries.find(key);
            if (found == memory_->entries.end()) {
                return fail(ErrorKind::NotFound, key.text() + " does not exist");
            }
            return object(key, found->second);
        });
    }

    Result<datastore::ListResult> list(api::Kind kind,
                                       const datastore::ListOptions& options) override {
        using datastore::ListResult;
        return guarded<ListResult>(Call::List, {kind, "", ""}, [&]() -> Result<ListResult> {
            ListResult result;
            result.resource_version = std::to_string(memory_->revision);
            for (const auto& [key, entry] : memory_->entries) {
                if (key.kind == kind && has_labels(entry.object, options.labels)) {
                    result.objects.push_back(object(key, entry));
                }
            }
            return result;
        });
    }

    Result<Object> create(const Key& key, const nlohmann::json& value) override {
        return guarded<Object>(Call::Create, key, [&]() -> Result<Object> {
            if (memory_->entries.contains(key)) {
                return fail(ErrorKind::AlreadyExists, key.text() + " exists");
            }
            auto& entry = memory_->entries[key];
            entry.uid = "uid-" + std::to_string(memory_->revision + 1);
            return put(key, entry, value);
        });
    }

    Result<Object> update(const Key& key, const nlohmann::json& value) override {
        return guarded<Object>(Call::Update, key, [&]() -> Result<Object> {
            auto found = memory_->entries.find(key);
            if (found == memory_->entries.end()) {
                return fail(ErrorKind::NotFound, key.text() + " does not exist");
            }
            const auto& metadata = value.at("metadata");
            if (metadata.contains("resourceVersion") &&
                metadata.at("resourceVersion") != std::to_string(found->second.revision)) {
                return fail(ErrorKind::Conflict, key.text() + " has changed");
            }
            return put(key, found->second, value);
        });
    }

    Result<Object> patch(const Key& key, const nlohmann::json&,
                         const datastore::Precondition&) override {
        return fail(ErrorKind::Bug, key.text() + ": IPAM patches nothing");
    }

    void when_delivered(std::function<void()> fn) override { fn(); }

    Result<void> remove(const Key& key, const datastore::Precondition& precondition = {}) override {
        return guarded<void>(Call::Remove, key, [&]() -> Result<void> {
            auto found = memory_->entries.find(key);
            if (found == memory_->entries.end()) {
                return fail(ErrorKind::NotFound, key.text() + " does not exist");
            }
            bool same_uid = precondition.uid.empty() || precondition.uid == found->second.uid;
            bool same_version =
                precondition.resource_version.empty() ||
                precondition.resource_version == std::to_string(found->second.revision);
            if (!same_uid || !same_version) {
                return fail(ErrorKind::Conflict, key.text() + " has changed");
            }
            memory_->revision++;
            memory_->entries.erase(found);
            return {};
        });
    }

    Result<std::unique_ptr<datastore::Watch>> watch(api::Kind, datastore::WatchHandler) override {
        return fail(ErrorKind::Bug, "the memory store has no watches");
    }

private:
    template <typename T, typename Fn>
    Result<T> guarded(Call call, const Key& key, Fn fn) {
        if (before) {
            if (auto error = before(call, key)) {
                return Unexpected(*error);
            }
        }
        Result<T> result = [&] {
            std::lock_guard lock(memory_->mutex);
            memory_->calls[call]++;
            return fn();
        }();
        if (after) {
            if (auto error = after(call, key)) {
                return Unexpected(*error);
            }
        }
        return result;
    }

    static bool has_labels(const nlohmann::json& object,
                           const std::map<std::string, std::string>& labels) {
        nlohmann::json::json_pointer at("/metadata/labels");
        if (labels.empty()) {
            return true;
        }
        if (!object.contains(at)) {
            return false;
        }
        const auto& own = object.at(at);
        for (const auto& [key, value] : labels) {
            auto found = own.find(key);
            if (found == own.end() || *found != value) {
                return false;
            }
        }
        return true;
    }

    Object put(const Key& key, Memory::Entry& entry, const nlohmann::json& value) {
        entry.revision = ++memory_->revision;
        entry.object = value;
        entry.object["metadata"]["name"] = key.name;
        entry.object["metadata"]["uid"] = entry.uid;
        entry.object["metadata"]["resourceVersion"] = std::to_string(entry.revision);
        entry.text = entry.object.dump();
        return object(key, entry);
    }

    static Object object(const Key& key, const Memory::Entry& entry) {
        return {key, entry.text, std::to_string(entry.revision), entry.uid};
    }

    std::shared_ptr<Memory> memory_;
};

} // namespace manx::ipam::test
