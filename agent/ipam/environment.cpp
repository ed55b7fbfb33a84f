// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/environment.h"

#include "agent/api/node.h"
#include "base/log.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace manx::ipam {

using datastore::Key;

namespace {

// Calls `good` with each object, or `bad` with the name and what there is of one that cannot be
// read.
template <typename T, typename Good, typename Bad>
Result<void> each_of(datastore::Store& store, api::Kind kind, Good good, Bad bad) {
    TRY_ASSIGN(auto found, store.list(kind));
    for (const auto& object : found.objects) {
        auto json = api::parse_json(object.json);
        auto value = json ? T::from_json(*json)
                          : Result<T>(Unexpected(json.error().within(object.key.text())));
        if (value) {
            good(std::move(*value));
        } else {
            log::get("ipam")->error("what was good of an object stays: {}", value.error().text());
            bad(object.key.name, json ? *json : nlohmann::json());
        }
    }
    return {};
}

// The CIDRs of a reservation that has others that cannot be read.
std::vector<Cidr> readable_cidrs(const nlohmann::json& reservation) {
    std::vector<Cidr> cidrs;
    nlohmann::json::json_pointer at("/spec/reservedCIDRs");
    if (!reservation.contains(at) || !reservation.at(at).is_array()) {
        return cidrs;
    }
    for (const auto& item : reservation.at(at)) {
        auto cidr = Cidr::parse(item.is_string() ? item.get<std::string>() : "");
        if (cidr) {
            cidrs.push_back(*cidr);
        }
    }
    return cidrs;
}

Result<void> load_pools(datastore::Store& store, const Environment* last, Environment& out) {
    return each_of<api::IpPool>(
        store, api::Kind::IpPool, [&](api::IpPool pool) { out.pools.push_back(std::move(pool)); },
        [&](const std::string& name, const nlohmann::json&) {
            if (last == nullptr) {
                return;
            }
            for (const auto& pool : last->pools) {
                if (pool.meta.name == name) {
                    out.pools.push_back(pool);
                }
            }
        });
}

Result<void> load_reservations(datastore::Store& store, const Environment* last, Environment& out) {
    TRY(each_of<api::IpReservation>(
        store, api::Kind::IpReservation,
        [&](api::IpReservation reservation) {
            out.reserved_by[reservation.meta.name] = std::move(reservation.reserved_cidrs);
        },
        [&](const std::string& name, const nlohmann::json& json) {
            std::vector<Cidr> cidrs = readable_cidrs(json);
            if (last != nullptr && last->reserved_by.contains(name)) {
                for (const Cidr& before : last->reserved_by.at(name)) {
                    if (std::ranges::find(cidrs, before) == cidrs.end()) {
                        cidrs.push_back(before);
                    }
                }
            }
            out.reserved_by[name] = std::move(cidrs);
        }));
    for (const auto& [name, cidrs] : out.reserved_by) {
        out.reservations.insert(out.reservations.end(), cidrs.begin(), cidrs.end());
    }
    return {};
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

Result<Environment> load_environment(datastore::Store& store, const BlockOwner& owner,
                                     const Environment* last) {
    Environment environment;
    TRY(load_pools(store, last, environment));
    TRY(load_reservations(store, last, environment));
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
        auto fresh = load_environment(store_, owner_, current_.get());
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
