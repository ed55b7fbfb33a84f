// SPDX-License-Identifier: Apache-2.0
// A datastore in a folder of its own, gone with the test.
#pragma once

#include "agent/datastore/sqlite_store.h"

#include <nlohmann/json.hpp>

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace manx::datastore {

class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "manx-store-XXXXXX").string();
        path_ = mkdtemp(pattern.data());
    }

    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    ~TemporaryFolder() {
        std::error_code ignored; // a folder left behind does not fail a test
        std::filesystem::remove_all(path_, ignored);
    }

    [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

inline Key pool_key(const std::string& name) {
    return {api::Kind::IpPool, "", name};
}

inline nlohmann::json object_with(nlohmann::json spec) {
    return {{"spec", std::move(spec)}};
}

// Collects a watch's events; wait_for blocks until the condition holds on them.
class Recorder {
public:
    WatchHandler handler() {
        return {.relist = [this] { note([this] { relists++; }); },
                .event = [this](Event event) { note([&] { events.push_back(std::move(event)); }); },
                .synced = [this] { note([this] { syncs++; }); },
                .lost = [this](const Error&) { note([this] { losses++; }); }};
    }

    template <typename Condition>
    bool wait_for(Condition condition,
                  std::chrono::milliseconds at_most = std::chrono::seconds(20)) {
        std::unique_lock lock(mutex);
        return changed.wait_for(lock, at_most, condition);
    }

    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Event> events;
    int relists = 0;
    int syncs = 0;
    int losses = 0;

private:
    template <typename Fn>
    void note(Fn fn) {
        {
            std::lock_guard lock(mutex);
            fn();
        }
        changed.notify_all();
    }
};

} // namespace manx::datastore
