// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/ipam_report.h"

#include "agent/api/fields.h"
#include "agent/ipam/time.h"

#include <nlohmann/json.hpp>

#include <set>
#include <utility>

namespace manx::ctl {

using nlohmann::json;

namespace {

std::string text(const api::StringMap& attributes, const char* key) {
    auto at = attributes.find(key);
    return at == attributes.end() ? "" : at->second;
}

json entry(const ipam::Block& block, size_t ordinal, const std::set<IpAddress>& leaked) {
    const auto& data = block.data();
    IpAddress address = block.cidr().address().plus(ordinal);
    auto index = static_cast<size_t>(*data.allocations[ordinal]);
    static const api::AllocationAttribute kNone;
    const auto& attribute = index < data.attributes.size() ? data.attributes[index] : kNone;
    auto sequence = data.sequence_number_for_allocation.find(static_cast<int>(ordinal));
    std::string node = text(attribute.secondary, "node");
    bool cooling = !attribute.released_at.empty();
    json out = {{"ip", address.text()},
                {"handle", attribute.handle_id.value_or("")},
                {"pod", text(attribute.secondary, "pod")},
                {"namespace", text(attribute.secondary, "namespace")},
                {"node", node},
                {"type", text(attribute.secondary, "type")},
                {"creationTimestamp", text(attribute.secondary, "timestamp")},
                {"inUse", !cooling && !leaked.contains(address)},
                {"borrowed", !node.empty() && "host:" + node != block.affinity()},
                {"coolingDown", cooling},
                {"owners", json::array()}};
    if (sequence != data.sequence_number_for_allocation.end()) {
        out["sequenceNumber"] = sequence->second;
    }
    if (std::string pod = ipam::pod_of(attribute); !pod.empty()) {
        out["owners"].push_back(pod);
    }
    return out;
}

} // namespace

json make_report(const ipam::Snapshot& snapshot, const ipam::Survey& found,
                 const api::ClusterInformation& cluster) {
    std::set<IpAddress> leaked;
    for (const auto& leak : found.leaks) {
        leaked.insert(leak.address);
    }
    json allocations = json::object();
    for (const auto& stored : snapshot.blocks) {
        const auto& data = stored.value.data();
        for (size_t i = 0; i < data.allocations.size(); i++) {
            if (data.allocations[i]) {
                json one = entry(stored.value, i, leaked);
                allocations[one["ip"].get<std::string>()].push_back(std::move(one));
            }
        }
    }
    json handles = json::array();
    for (const auto& fault : found.handles) {
        if (fault.actual.empty()) {
            std::string uid;
            for (const auto& stored : snapshot.handles) {
                uid = stored.value.handle_id == fault.id ? stored.uid : uid;
            }
            handles.push_back(
                {{"ID", fault.id}, {"UID", uid}, {"Revision", fault.resource_version}});
        }
    }
    return {{"version", cluster.calico_version},
            {"clusterGUID", cluster.cluster_guid},
            {"datastoreLocked", !cluster.datastore_ready},
            {"clusterInformationRevision", cluster.meta.resource_version},
            {"clusterType", cluster.cluster_type},
            {"allocations", std::move(allocations)},
            {"leakedHandles", std::move(handles)}};
}

Result<IpamReport> IpamReport::from_json(const json& report) {
    api::Problems problems{"report", {}};
    IpamReport out;
    api::Fields root(&report, "", problems);
    root.get("version", out.version);
    root.get("clusterGUID", out.cluster_guid);
    root.require("allocations");
    api::Fields allocations = root.at("allocations");
    if (allocations.raw().is_object()) {
        for (const auto& [address, list] : allocations.raw().items()) {
            allocations.each(address.c_str(), [&](const api::Fields& item) {
                bool in_use = true;
                bool cooling = false;
                ReportedLeak leak;
                item.get("inUse", in_use);
                item.get("coolingDown", cooling);
                item.require("ip");
                item.get("ip", leak.address);
                item.get("handle", leak.handle);
                item.get("sequenceNumber", leak.sequence_number);
                if (!in_use && !cooling) {
                    out.leaks.push_back(std::move(leak));
                }
            });
        }
    }
    root.each("leakedHandles", [&](const api::Fields& item) {
        ReportedHandle handle;
        item.require("ID");
        item.get("ID", handle.id);
        item.get("Revision", handle.resource_version);
        out.handles.push_back(std::move(handle));
    });
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return out;
}

Result<api::ClusterInformation> cluster_information(datastore::Store& store) {
    auto object = store.get({api::Kind::ClusterInformation, "", "default"});
    if (!object) {
        if (object.error().kind != ErrorKind::NotFound) {
            return Unexpected(object.error());
        }
        api::ClusterInformation none;
        none.datastore_ready = true; // nobody has locked it
        return none;
    }
    TRY_ASSIGN(auto parsed, api::parse_json(object->json));
    return api::ClusterInformation::from_json(parsed);
}

} // namespace manx::ctl
