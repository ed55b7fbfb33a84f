// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/workload.h"

#include "agent/api/fields.h"
#include "agent/api/meta.h"
#include "agent/api/pod.h"
#include "agent/cni/record.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace manx::cni {

namespace {

using datastore::Key;
using nlohmann::json;

constexpr int kConflictRetries = 5;

struct PodFacts {
    Workload workload;
    api::NetworkRequest wish;           // of the pod's annotations
    api::NetworkRequest namespace_wish; // of its namespace's
    api::StringMap namespace_labels;
};

Key pod_key(const std::string& ns, const std::string& pod) {
    return {api::Kind::Pod, ns, pod};
}

Result<json> get_json(datastore::Store& store, const Key& key) {
    TRY_ASSIGN(const auto object, store.get(key));
    return api::parse_json(object.json);
}

Result<void> read_namespace(datastore::Store& store, const std::string& ns, PodFacts& facts) {
    const Key key{api::Kind::Namespace, "", ns};
    auto object = get_json(store, key);
    if (!object) {
        // Pods without their Namespace object exist in small set-ups; it then has no labels.
        return object.error().kind == ErrorKind::NotFound ? Result<void>{}
                                                          : Unexpected(object.error());
    }
    api::Problems problems{key.text(), {}};
    auto meta = api::read_meta(key.kind, *object, problems);
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    TRY_ASSIGN(facts.namespace_wish, api::network_request(key.text(), meta.annotations));
    facts.namespace_labels = std::move(meta.labels);
    return {};
}

Result<PodFacts> find_pod(datastore::Store& store, const CniRequest& request) {
    PodFacts facts;
    if (!request.is_kubernetes()) {
        return facts;
    }
    const Key key = pod_key(request.ns, request.pod);
    auto object = get_json(store, key);
    if (!object && object.error().kind == ErrorKind::NotFound) {
        return fail(ErrorKind::ConfigReality, key.text() + " is not in the datastore (yet)");
    }
    TRY(object);
    TRY_ASSIGN(auto pod, api::Pod::from_json(*object));
    TRY_ASSIGN(facts.wish, api::network_request(key.text(), pod.meta.annotations));
    facts.workload.labels = std::move(pod.meta.labels);
    facts.workload.service_account = std::move(pod.service_account);
    facts.workload.pod_uid = std::move(pod.meta.uid);
    facts.workload.mac = facts.wish.mac;
    for (auto& port : pod.named_ports) {
        if (!port.name.empty()) {
            facts.workload.named_ports.push_back({std::move(port.name), port.protocol, port.port});
        }
    }
    TRY(read_namespace(store, request.ns, facts));
    return facts;
}

// Pod before namespace before configuration.
const std::vector<std::string>& first_set(const std::vector<std::string>& pod,
                                          const std::vector<std::string>& ns,
                                          const std::vector<std::string>& conf) {
    return !pod.empty() ? pod : !ns.empty() ? ns : conf;
}

Result<void> check_fixed(const std::string& subject, const char* field,
                         const std::vector<IpAddress>& addresses) {
    for (const Family family : kFamilies) {
        if (std::count_if(addresses.begin(), addresses.end(),
                          [=](const auto& a) { return a.family() == family; }) > 1) {
            return fail(ErrorKind::ConfigInvalid,
                        subject + ": annotation cni.projectcalico.org/" + field +
                            ": expected at most one address of each family");
        }
    }
    return {};
}

Result<AddressRequest> address_request(const AssignItem& item, const PodFacts& facts) {
    const CniRequest& request = *item.request;
    const NetConf& conf = request.conf;
    const std::string subject =
        request.is_kubernetes() ? pod_key(request.ns, request.pod).text() : "network " + conf.name;
    AddressRequest out;
    out.handle = ipam_handle(conf.name, request.attachment.container_id);
    out.ns = request.ns;
    out.pod = request.pod;
    out.namespace_labels = facts.namespace_labels;
    out.pools4 = first_set(facts.wish.pools4, facts.namespace_wish.pools4, conf.pools4);
    out.pools6 = first_set(facts.wish.pools6, facts.namespace_wish.pools6, conf.pools6);
    const auto offered = [&](Family family) {
        return std::any_of(item.offers.begin(), item.offers.end(), [&](const PoolOffer& offer) {
            return offer.family == family && offer.namespaces.matches(facts.namespace_labels);
        });
    };
    out.v4 = conf.assign_ipv4.value_or(offered(Family::V4) || !out.pools4.empty());
    out.v6 = conf.assign_ipv6.value_or(offered(Family::V6) || !out.pools6.empty());
    if (!facts.wish.families.empty()) {
        const auto wants = [&](Family family) {
            return std::find(facts.wish.families.begin(), facts.wish.families.end(), family) !=
                   facts.wish.families.end();
        };
        out.v4 = wants(Family::V4);
        out.v6 = wants(Family::V6);
    }
    TRY(check_fixed(subject, "ipAddrs", facts.wish.addresses));
    out.fixed = facts.wish.addresses;
    if (request.fixed_address) {
        out.fixed = {*request.fixed_address};
    }
    if (!out.fixed.empty()) {
        // The wish is for these and no others.
        out.v4 = out.v6 = false;
        for (const IpAddress& address : out.fixed) {
            (address.is_v4() ? out.v4 : out.v6) = true;
        }
    }
    if (!out.v4 && !out.v6) {
        return fail(ErrorKind::ConfigReality,
                    subject + ": no IP pool of any family gives addresses to pods of this node and "
                              "namespace");
    }
    return out;
}

// The addresses that the pod brings along, where its configuration allows that.
Result<std::vector<IpAddress>> own_addresses(const CniRequest& request, const PodFacts& facts) {
    const auto& addresses = facts.wish.addresses_no_ipam;
    if (addresses.empty()) {
        return addresses;
    }
    const std::string subject = pod_key(request.ns, request.pod).text();
    if (!request.conf.ip_addrs_no_ipam) {
        return fail(ErrorKind::ConfigInvalid,
                    subject + ": annotation cni.projectcalico.org/ipAddrsNoIpam: the network's "
                              "feature_control.ip_addrs_no_ipam does not allow it");
    }
    if (!facts.wish.addresses.empty()) {
        return fail(ErrorKind::ConfigInvalid,
                    subject + ": annotations ipAddrs and ipAddrsNoIpam exclude each other");
    }
    TRY(check_fixed(subject, "ipAddrsNoIpam", addresses));
    return addresses;
}

void sort_by_family(std::vector<IpAddress>& addresses) {
    std::stable_sort(addresses.begin(), addresses.end(),
                     [](const auto& a, const auto& b) { return a.is_v4() && !b.is_v4(); });
}

json annotations_patch(json annotations) {
    return {{"metadata", {{"annotations", std::move(annotations)}}}};
}

} // namespace

void assign_workloads(datastore::Store& store, AddressSource& source,
                      std::span<AssignItem* const> items,
                      const std::function<void(size_t)>& looked_up) {
    std::vector<AddressRequest> requests;
    std::vector<AssignItem*> asking;
    for (size_t i = 0; i < items.size(); ++i) {
        AssignItem* const item = items[i];
        auto facts = find_pod(store, *item->request);
        if (!facts) {
            item->result = Unexpected(facts.error());
            continue;
        }
        auto own = own_addresses(*item->request, *facts);
        if (!own) {
            item->result = Unexpected(own.error());
            continue;
        }
        if (!own->empty()) {
            facts->workload.addresses = std::move(*own);
            sort_by_family(facts->workload.addresses);
            item->result = std::move(facts->workload);
            looked_up(i);
            continue;
        }
        auto request = address_request(*item, *facts);
        if (!request) {
            item->result = Unexpected(request.error());
            continue;
        }
        requests.push_back(std::move(*request));
        asking.push_back(item);
        item->result = std::move(facts->workload);
        looked_up(i);
    }
    if (requests.empty()) {
        return;
    }
    auto answers = source.assign(requests);
    for (size_t i = 0; i < asking.size(); ++i) {
        if (!answers[i]) {
            asking[i]->result = Unexpected(answers[i].error());
            continue;
        }
        asking[i]->result->addresses = std::move(*answers[i]);
        sort_by_family(asking[i]->result->addresses);
    }
}

Result<void> announce_addresses(datastore::Store& store, const CniRequest& request,
                                const Workload& workload) {
    if (!request.is_kubernetes() || workload.addresses.empty()) {
        return {};
    }
    std::string all;
    for (const IpAddress& address : workload.addresses) {
        all += (all.empty() ? "" : ",") + Cidr::host(address).text();
    }
    const json patch =
        annotations_patch({{api::kPodIpAnnotation, Cidr::host(workload.addresses.front()).text()},
                           {api::kPodIpsAnnotation, all},
                           {api::kContainerIdAnnotation, request.attachment.container_id}});
    auto patched = store.patch(pod_key(request.ns, request.pod), patch,
                               {.uid = workload.pod_uid, .resource_version = {}});
    if (!patched) {
        return Unexpected(patched.error().within("annotations of the pod"));
    }
    return {};
}

Result<void> withdraw_addresses(datastore::Store& store, const std::string& ns,
                                const std::string& pod, const std::string& container_id) {
    const Key key = pod_key(ns, pod);
    const json patch =
        annotations_patch({{api::kPodIpAnnotation, ""}, {api::kPodIpsAnnotation, ""}});
    for (int i = 0;; ++i) {
        auto object = store.get(key);
        if (!object) {
            return object.error().kind == ErrorKind::NotFound ? Result<void>{}
                                                              : Unexpected(object.error());
        }
        TRY_ASSIGN(const auto parsed, api::parse_json(object->json));
        api::Problems problems{key.text(), {}};
        const auto meta = api::read_meta(key.kind, parsed, problems);
        const auto owner = meta.annotations.find(api::kContainerIdAnnotation);
        if (owner == meta.annotations.end() || owner->second != container_id) {
            return {};
        }
        auto patched = store.patch(
            key, patch, {.uid = object->uid, .resource_version = object->resource_version});
        if (patched || patched.error().kind == ErrorKind::NotFound) {
            return {};
        }
        if (patched.error().kind != ErrorKind::Conflict || i == kConflictRetries) {
            return Unexpected(patched.error());
        }
    }
}

} // namespace manx::cni
