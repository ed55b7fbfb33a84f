// SPDX-License-Identifier: Apache-2.0
#include "tests/policy/agent_view.h"

#include "tests/oracle/reading.h"

#include <stdexcept>

namespace manx::testing_policy {

namespace {

datastore::Key stored_key(const json& object) {
    const json& meta = object["metadata"];
    return {kind_of(object), meta.value("namespace", ""), meta["name"].get<std::string>()};
}

} // namespace

api::Kind kind_of(const json& object) {
    const auto kind =
        api::find_kind(object.value("apiVersion", "v1"), object["kind"].get<std::string>());
    if (!kind) {
        throw std::runtime_error("no such kind: " + object.dump());
    }
    return *kind;
}

std::string key_of(const json& object) {
    const json& meta = object["metadata"];
    return object["kind"].get<std::string>() + object.value("apiVersion", "") + " " +
           meta.value("namespace", "") + "/" + meta["name"].get<std::string>();
}

bool is_local_pod(const json& object) {
    if (object["kind"] != "Pod" || object["spec"].value("nodeName", "") != "n1") {
        return false;
    }
    const std::string phase = object.value("/status/phase"_json_pointer, "");
    return phase != "Succeeded" && phase != "Failed" &&
           !object["metadata"].contains("deletionTimestamp");
}

std::string print(const std::vector<json>& objects) {
    std::string out;
    for (const auto& object : objects) {
        out += object.dump() + "\n";
    }
    return out;
}

AgentView::AgentView(dataplane::TableWriter& writer, calc::CalculatorOptions with,
                     std::function<void(dataplane::LocalEndpoint&)> complete)
    : calculator(std::move(with)), tables(writer, [this] { return now; }),
      complete_(std::move(complete)) {
    if (const auto done = tables.resync({}); !done) {
        throw std::runtime_error(done.error().text());
    }
}

uint16_t AgentView::slot(const json& pod) {
    const auto next = static_cast<uint16_t>(slots_.size());
    return slots_.try_emplace(key_of(pod), next).first->second;
}

Result<void> AgentView::put(const json& object) {
    const api::Kind kind = kind_of(object);
    if (api::is_policy(kind)) {
        TRY_ASSIGN(const api::Policy policy, api::parse_policy(kind, object));
        if (names_.put(stored_key(object), policy.name)) {
            calculator.upsert(policy);
        }
        return {};
    }
    TRY(calc::feed(calculator, kind, object));
    if (object["kind"] == "Pod") {
        TRY_ASSIGN(auto local,
                   calc::local_from_pod(object, is_local_pod(object) ? slot(object) : 0));
        if (is_local_pod(object)) {
            if (complete_) {
                complete_(local);
            }
            calculator.upsert_local(local);
        } else {
            calculator.remove_local(local.interface);
        }
    }
    return {};
}

void AgentView::remove(const json& object) {
    const datastore::Key key = stored_key(object);
    const auto name = api::is_policy(key.kind) ? names_.remove(key) : std::optional(key.name);
    if (name) {
        calculator.remove(key.kind, key.ns, *name);
    }
    if (object["kind"] == "Pod") {
        if (const auto local = calc::local_from_pod(object, 0)) {
            calculator.remove_local(local->interface);
        }
    }
}

Result<void> AgentView::flush() {
    now += std::chrono::seconds(1);
    TRY(tables.apply(calculator.flush()));
    now += std::chrono::seconds(1);
    return tables.collect();
}

bool InForce::put(const json& object) {
    const auto read = oracle::read_object(object).reading;
    const auto before = objects_.find(key_of(object));
    if (read == oracle::Reading::Refused) {
        return false;
    }
    // One that could not be read before either is as bad as the new one.
    if (read == oracle::Reading::Unread && before != objects_.end() &&
        oracle::read_object(before->second).reading == oracle::Reading::Whole) {
        return false;
    }
    objects_.insert_or_assign(key_of(object), object);
    return true;
}

void InForce::remove(const json& object) {
    objects_.erase(key_of(object));
}

oracle::World InForce::world() const {
    oracle::World world;
    for (const auto& [key, object] : objects_) {
        world.add(object);
    }
    world.prepare();
    return world;
}

} // namespace manx::testing_policy
