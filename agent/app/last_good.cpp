// SPDX-License-Identifier: Apache-2.0
#include "agent/app/last_good.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <unistd.h>
#include <utility>
#include <vector>

namespace manx::app {

namespace {

using datastore::Key;
using nlohmann::json;

constexpr int kVersion = 1;
constexpr std::string_view kSuffix = ".object";

template <size_t kSize>
std::string hex(const std::array<uint8_t, kSize>& bytes) {
    return fmt::format("{:02x}", fmt::join(bytes, ""));
}

// One line of JSON, then the object's bytes.
std::string render(const Key& key, const LastGood::State& state) {
    const json head = {{"version", kVersion},
                       {"kind", api::title(key.kind)},
                       {"namespace", key.ns},
                       {"name", key.name},
                       {"uid", state.uid},
                       {"resourceVersion", state.version},
                       {"sha256", hex(sha256(state.object))}};
    return head.dump(-1, ' ', false, json::error_handler_t::replace) + "\n" + state.object;
}

std::optional<std::pair<Key, LastGood::State>> parse(std::string_view text) {
    const size_t end = text.find('\n');
    const json head = end == std::string_view::npos
                          ? json(nullptr)
                          : json::parse(text.substr(0, end), nullptr, false);
    const auto member = [&head](const char* name) {
        const auto at = head.find(name);
        return at != head.end() && at->is_string() ? at->get<std::string>() : std::string();
    };
    if (!head.is_object() || head.value("version", json(nullptr)) != kVersion) {
        return std::nullopt;
    }
    const auto kinds = api::all_kinds();
    const auto kind = std::ranges::find_if(
        kinds, [&](const auto& one) { return api::title(one.kind) == member("kind"); });
    const std::string object(text.substr(end + 1));
    if (kind == kinds.end() || member("sha256") != hex(sha256(object))) {
        return std::nullopt;
    }
    return std::pair{Key{kind->kind, member("namespace"), member("name")},
                     LastGood::State{member("uid"), member("resourceVersion"), object}};
}

std::string stamp(const LastGood::State& state) {
    return state.uid + "/" + state.version;
}

} // namespace

bool keeps_last_good(api::Kind kind) {
    switch (kind) {
    case api::Kind::K8sNetworkPolicy:
    case api::Kind::ClusterNetworkPolicy:
    case api::Kind::NetworkPolicy:
    case api::Kind::GlobalNetworkPolicy:
    case api::Kind::StagedNetworkPolicy:
    case api::Kind::StagedGlobalNetworkPolicy:
    case api::Kind::StagedKubernetesNetworkPolicy:
    case api::Kind::Tier:
    case api::Kind::NetworkSet:
    case api::Kind::GlobalNetworkSet:
    case api::Kind::HostEndpoint:
    case api::Kind::FelixConfiguration:
    case api::Kind::IpPool:
    case api::Kind::BgpConfiguration:
    case api::Kind::BgpPeer:
    case api::Kind::BgpFilter:
        return true;
    default:
        return false;
    }
}

LastGood::LastGood(std::string folder) : folder_(std::move(folder)) {
}

LastGood::~LastGood() {
    write_out(); // the worker ends when it is done
}

Result<std::unique_ptr<LastGood>> LastGood::open(const std::string& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) {
        return fail_errno("make folder " + folder, error.value());
    }
    std::unique_ptr<LastGood> made(new LastGood(folder));
    TRY(made->read_folder());
    return made;
}

Result<void> LastGood::read_folder() {
    std::vector<std::string> useless;
    std::error_code error;
    for (std::filesystem::directory_iterator it(folder_, error), end; it != end;
         it.increment(error)) {
        const std::string path = it->path().string();
        const auto text = it->path().extension() == kSuffix ? read_file(path) : std::string();
        auto kept = text ? parse(*text) : std::nullopt;
        if (kept && path_of(kept->first) == path) {
            unseen_.emplace(kept->first, stamp(kept->second));
        } else {
            useless.push_back(path);
        }
    }
    if (error) {
        return fail_errno("read folder " + folder_, error.value());
    }
    for (const auto& path : useless) {
        log::get("agent")->warn("not a whole last good state, removed file={}", path);
        std::filesystem::remove(path, error); // what stays is found again
    }
    return {};
}

std::string LastGood::path_of(const Key& key) const {
    return folder_ + "/" + hex(sha1(key.text())) + std::string(kSuffix);
}

void LastGood::keep(const Key& key, State state) {
    const auto there = unseen_.extract(key);
    if (there && there.mapped() == stamp(state)) {
        return;
    }
    change(key, {.state = std::move(state)});
}

void LastGood::hold(const Key& key) {
    unseen_.erase(key);
    std::unique_lock lock(mutex_);
    const auto waits = pending_.find(key);
    Change wanted = waits == pending_.end() ? Change{} : *waits->second;
    wanted.sync = true;
    lock.unlock();
    change(key, std::move(wanted));
}

void LastGood::forget(const Key& key) {
    unseen_.erase(key);
    change(key, {.state = std::nullopt, .remove = true});
}

std::optional<LastGood::State> LastGood::find(const Key& key) const {
    {
        const std::lock_guard lock(mutex_);
        const auto waits = pending_.find(key);
        if (waits != pending_.end() && (waits->second->state || waits->second->remove)) {
            return waits->second->state;
        }
    }
    const auto text = read_file(path_of(key));
    auto kept = text ? parse(*text) : std::nullopt;
    return kept && kept->first == key ? std::optional(std::move(kept->second)) : std::nullopt;
}

void LastGood::end_list(api::Kind kind) {
    std::erase_if(unseen_, [&](const auto& one) {
        if (one.first.kind != kind) {
            return false;
        }
        change(one.first, {.state = std::nullopt, .remove = true});
        return true;
    });
}

void LastGood::change(const Key& key, Change change) {
    const std::lock_guard lock(mutex_);
    pending_[key] = std::make_shared<const Change>(std::move(change));
}

void LastGood::write_out() {
    const std::lock_guard lock(mutex_);
    if (!pending_.empty()) {
        worker_.post([this] { write_pending(); });
    }
}

// What is being written stays in pending_ until it is there.
void LastGood::write_pending() {
    std::unique_lock lock(mutex_);
    while (!pending_.empty()) {
        const auto [key, change] = *pending_.begin();
        lock.unlock();
        const auto written = write(key, *change);
        auto trouble = written ? std::string() : written.error().text();
        if (trouble != trouble_ && !trouble.empty()) {
            log::get("agent")->error("last good state not on disk object=\"{}\" reason=\"{}\"",
                                     key.text(), trouble);
        }
        trouble_ = std::move(trouble);
        lock.lock();
        const auto at = pending_.find(key);
        if (at != pending_.end() && at->second == change) {
            pending_.erase(at);
        }
    }
}

Result<void> LastGood::write(const Key& key, const Change& change) const {
    const std::string path = path_of(key);
    if (change.remove) {
        if (unlink(path.c_str()) != 0 && errno != ENOENT) {
            return fail_errno("remove " + path);
        }
        return {};
    }
    if (change.state) {
        TRY(replace_file(path, render(key, *change.state),
                         change.sync ? Durable::Yes : Durable::No));
    } else if (change.sync) {
        if (auto synced = sync_file(path);
            !synced && synced.error().err != ENOENT) { // it never was good
            return synced;
        }
    }
    return change.sync ? sync_file(folder_) : Result<void>{};
}

} // namespace manx::app
