// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/environment.h"

#include "agent/api/node.h"
#include "base/log.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <utility>

namespace manx::ipam {

using datastore::Key;

namespace {

template <typename T>
Result<std::vector<T>> list_kind(datastore::Store& store, api::Kind kind) {
    TRY_ASSIGN(auto found, store.list(kind));
    std::vector<T> all;
    for (const auto& object : found.objects) {
        auto json = api::parse_json(object.json);
        auto value = json ? T::from_json(*json) : Result<T>(Unexpected(json.error()));
        if (!value) {
            log::get("ipam")->error("an object is left out: {}",
                                    value.error().within(object.key.text()).text());
            continue;
        }
        all.push_back(std::move(*value));
    }
    return all;
}

Result<api::IpamConfig> load_config(datastore::Store& store) {
    auto object = store.get({api::Kind::IpamConfig, "", "default"});
    if (!object) {
        if (object.error().kind == ErrorKind::NotFound) {
            return api::IpamConfig{};
        }
        return Unexpected(object.error());
    }
    TRY_ASSIGN(auto json, api::parse_json(object->json));
    return api::IpamConfig::from_json(json);
}

} // namespace

Result<api::StringMap> load_node_labels(datastore::Store& store, const std::string& node) {
    TRY_ASSIGN(auto object, store.get({api::Kind::Node, "", node}));
    TRY_ASSIGN(auto json, api::parse_json(object.json));
    TRY_ASSIGN(auto parsed, api::Node::from_json(json));
    return std::move(parsed.meta.labels);
}

Result<Environment> load_environment(datastore::Store& store, const BlockOwner& owner) {
    Environment environment;
    TRY_ASSIGN(environment.pools, list_kind<api::IpPool>(store, api::Kind::IpPool));
    TRY_ASSIGN(auto reservations, list_kind<api::IpReservation>(store, api::Kind::IpReservation));
    for (const auto& reservation : reservations) {
        environment.reservations.insert(environment.reservations.end(),
                                        reservation.reserved_cidrs.begin(),
                                        reservation.reserved_cidrs.end());
    }
    TRY_ASSIGN(environment.config, load_config(store));
    if (owner.type == "host") {
        auto labels = load_node_labels(store, owner.name);
        if (labels) {
            environment.node_labels = std::move(*labels);
        } else if (labels.error().kind == ErrorKind::NotFound) {
            environment.node_exists = false;
        } else {
            return Unexpected(labels.error().within("Node " + owner.name));
        }
    }
    return environment;
}

EnvironmentCache::EnvironmentCache(datastore::Store& store, BlockOwner owner,
                                   std::chrono::milliseconds max_age)
    : store_(store), owner_(std::move(owner)), max_age_(max_age) {
}

Result<void> EnvironmentCache::watch() {
    for (api::Kind kind : {api::Kind::IpPool, api::Kind::IpReservation, api::Kind::IpamConfig}) {
        datastore::WatchHandler handler;
        handler.relist = [this] { stale_ = true; };
        handler.event = [this](const datastore::Event&) { stale_ = true; };
        handler.synced = [] {};
        handler.lost = [](const Error&) {}; // the store goes on trying, and lists anew
        TRY_ASSIGN(auto watch, store_.watch(kind, std::move(handler)));
        watches_.push_back(std::move(watch));
    }
    return {};
}

Result<std::shared_ptr<const Environment>> EnvironmentCache::get() {
    auto now = Steady::now();
    bool old = watches_.empty() && now - loaded_ > max_age_;
    if (stale_.exchange(false) || old || current_ == nullptr) {
        node_stale_ = false;
        auto fresh = load_environment(store_, owner_);
        if (!fresh) {
            stale_ = true;
            if (fresh.error().kind == ErrorKind::ConfigInvalid && current_ != nullptr) {
                log::get("ipam")->error("the last good configuration stays: {}",
                                        fresh.error().text());
                return current_;
            }
            return Unexpected(fresh.error());
        }
        current_ = std::make_shared<const Environment>(std::move(*fresh));
        loaded_ = node_loaded_ = now;
        return current_;
    }
    if (owner_.type == "host" && (node_stale_.exchange(false) || now - node_loaded_ > max_age_)) {
        auto labels = load_node_labels(store_, owner_.name);
        bool exists = labels.has_value();
        if (!exists && labels.error().kind != ErrorKind::NotFound) {
            node_stale_ = true;
            return Unexpected(labels.error().within("Node " + owner_.name));
        }
        if (exists != current_->node_exists || (exists && *labels != current_->node_labels)) {
            auto changed = std::make_shared<Environment>(*current_);
            changed->node_exists = exists;
            changed->node_labels = exists ? std::move(*labels) : api::StringMap{};
            current_ = std::move(changed);
        }
        node_loaded_ = now;
    }
    return current_;
}

} // namespace manx::ipam
