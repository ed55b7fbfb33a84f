// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/policy_world.h"

#include "agent/api/meta.h"
#include "agent/api/policy.h"
#include "agent/calc/feed.h"
#include "agent/ctl/agent_client.h"
#include "agent/ctl/manifest.h"
#include "agent/ctl/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ostream>

namespace manx::ctl {

namespace {

using nlohmann::json;

constexpr std::array kKinds{api::Kind::Namespace,
                            api::Kind::ServiceAccount,
                            api::Kind::Pod,
                            api::Kind::Service,
                            api::Kind::EndpointSlice,
                            api::Kind::HostEndpoint,
                            api::Kind::NetworkSet,
                            api::Kind::GlobalNetworkSet,
                            api::Kind::Tier,
                            api::Kind::K8sNetworkPolicy,
                            api::Kind::ClusterNetworkPolicy,
                            api::Kind::NetworkPolicy,
                            api::Kind::GlobalNetworkPolicy,
                            api::Kind::StagedNetworkPolicy,
                            api::Kind::StagedGlobalNetworkPolicy,
                            api::Kind::StagedKubernetesNetworkPolicy};

Result<std::vector<Resource>> read(Context& context, const std::vector<std::string>& files) {
    if (files.empty()) {
        return std::vector<Resource>{};
    }
    ManifestOptions options;
    options.sources = files;
    return read_manifests(options, context.in);
}

} // namespace

Result<PolicyObjects> read_policy_objects(Context& context) {
    PolicyObjects out;
    TRY_ASSIGN(auto* store, context.store());
    for (const api::Kind kind : kKinds) {
        TRY_ASSIGN(const auto list, store->list(kind));
        for (const auto& object : list.objects) {
            TRY_ASSIGN(out[object.key], api::parse_json(object.json));
        }
    }
    return out;
}

Result<void> put_manifests(PolicyObjects& objects, Context& context,
                           const std::vector<std::string>& files) {
    TRY_ASSIGN(auto resources, read(context, files));
    for (auto& resource : resources) {
        if (auto good = validate_object(resource); !good) {
            return Unexpected(good.error().within(resource.source)); // as apply would
        }
        objects[resource.key] = std::move(resource.object);
    }
    return {};
}

Result<void> take_manifests(PolicyObjects& objects, Context& context,
                            const std::vector<std::string>& files) {
    TRY_ASSIGN(const auto resources, read(context, files));
    for (const auto& resource : resources) {
        if (objects.erase(resource.key) == 0) {
            return fail(ErrorKind::NotFound, fmt::format("{}: {} is not in the datastore",
                                                         resource.source, resource.key.text()));
        }
    }
    return {};
}

std::unique_ptr<calc::PolicyCalculator>
compile(const PolicyObjects& objects, const std::set<IpAddress>& workloads, std::ostream* err) {
    auto out = std::make_unique<calc::PolicyCalculator>(calc::CalculatorOptions{.node_name = ""});
    uint16_t index = 0;
    for (const auto& [key, object] : objects) {
        const auto name = api::name_of_older_form(key.kind, key.name, object);
        if (name && objects.contains({key.kind, key.ns, *name})) {
            continue;
        }
        if (auto fed = calc::feed(*out, key.kind, object); !fed) {
            if (err != nullptr) {
                *err << "left out: " << fed.error().text() << "\n";
            }
            continue;
        }
        if (key.kind != api::Kind::Pod) {
            continue;
        }
        const auto local = calc::local_from_pod(object, index);
        if (local && std::ranges::any_of(local->addresses, [&](const IpAddress& address) {
                return workloads.contains(address);
            })) {
            out->upsert_local(*local);
            ++index;
        }
    }
    (void)out->flush(); // judgements and numbers need no tables
    return out;
}

PodNames::PodNames(const PolicyObjects& objects) {
    for (const auto& [key, object] : objects) {
        if (key.kind != api::Kind::Pod) {
            continue;
        }
        if (const auto local = calc::local_from_pod(object, 0)) {
            for (const auto& address : local->addresses) {
                names_.emplace(address, key.ns + "/" + key.name);
            }
        }
    }
}

std::string PodNames::of(const IpAddress& address) const {
    const auto found = names_.find(address);
    return found == names_.end() ? std::string() : found->second;
}

RuleNames::RuleNames(const std::string& agent_socket, const calc::PolicyCalculator& calculator) {
    if (const auto answer = ask_agent(agent_socket, "/rules"); answer && answer->is_array()) {
        for (const auto& rule : *answer) {
            if (rule.is_object() && rule.contains("number") && rule.contains("rule") &&
                rule["number"].is_number_unsigned() && rule["rule"].is_string()) {
                names_.emplace(rule["number"].get<uint32_t>(), rule["rule"].get<std::string>());
            }
        }
        return;
    }
    for (const auto& [number, name] : calculator.rules().all()) {
        names_.emplace(number, name->text());
    }
}

std::string RuleNames::of(uint32_t number) const {
    if (number == 0) {
        return "no rule";
    }
    const auto found = names_.find(number);
    return found == names_.end() ? fmt::format("rule {}", number) : "rule " + found->second;
}

} // namespace manx::ctl
