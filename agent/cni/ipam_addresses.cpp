// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/ipam_addresses.h"

#include "agent/ipam/ipam.h"

namespace manx::cni {

std::map<std::string, std::string> IpamAddresses::attributes(const AddressRequest& request) const {
    auto attrs = ipam::pod_attributes(node_, request.ns, request.pod, ipam::system_now());
    if (request.pod.empty()) {
        // Nobody checks the owner of what has no pod.
        attrs.erase("namespace");
        attrs.erase("pod");
    }
    return attrs;
}

Result<std::vector<IpAddress>> IpamAddresses::assign_fixed(const AddressRequest& request) {
    std::vector<IpAddress> out;
    const auto attrs = attributes(request);
    for (const IpAddress& address : request.fixed) {
        ipam::AssignRequest one;
        one.address = address;
        one.handle = request.handle;
        one.attrs = attrs;
        auto assigned = allocator_.assign_ip(one);
        if (!assigned) {
            (void)allocator_.release_by_handle(
                request.handle); // the first error is the one to tell
            return Unexpected(assigned.error().within("address " + address.text()));
        }
        out.push_back(assigned->address);
    }
    return out;
}

std::vector<Result<std::vector<IpAddress>>>
IpamAddresses::assign(std::span<const AddressRequest> requests) {
    std::vector<Result<std::vector<IpAddress>>> answers(requests.size());
    std::vector<ipam::Request> many;
    std::vector<size_t> places;
    for (size_t i = 0; i < requests.size(); ++i) {
        const AddressRequest& request = requests[i];
        if (!request.fixed.empty()) {
            answers[i] = assign_fixed(request);
            continue;
        }
        ipam::Request one;
        one.handle = request.handle;
        one.attrs = attributes(request);
        one.num4 = request.v4 ? 1 : 0;
        one.num6 = request.v6 ? 1 : 0;
        one.pools4 = request.pools4;
        one.pools6 = request.pools6;
        one.namespace_labels = request.namespace_labels;
        many.push_back(std::move(one));
        places.push_back(i);
    }
    if (many.empty()) {
        return answers;
    }
    auto assigned = allocator_.auto_assign_many(many);
    for (size_t i = 0; i < places.size(); ++i) {
        if (!assigned[i]) {
            answers[places[i]] = Unexpected(assigned[i].error());
            continue;
        }
        std::vector<IpAddress> addresses;
        for (const auto* family : {&assigned[i]->v4, &assigned[i]->v6}) {
            for (const auto& one : *family) {
                addresses.push_back(one.address);
            }
        }
        answers[places[i]] = std::move(addresses);
    }
    return answers;
}

std::vector<Result<void>> IpamAddresses::release(std::span<const std::string> handles) {
    auto results = allocator_.release_by_handles(handles);
    for (auto& result : results) {
        if (!result && result.error().kind == ErrorKind::NotFound) {
            result = {};
        }
    }
    return results;
}

} // namespace manx::cni
