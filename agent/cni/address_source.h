// SPDX-License-Identifier: Apache-2.0
// Where the CNI server takes addresses from. Implemented over agent/ipam (ipam_addresses.h) and by
// tests.
//
// Threading: calls block and come from one worker thread.
#pragma once

#include "base/ip.h"
#include "base/result.h"

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace manx::cni {

struct AddressRequest {
    std::string handle; // "<network>.<container id>"
    bool v4 = false;
    bool v6 = false;
    std::vector<std::string> pools4; // names or CIDRs; empty: any that the node may use
    std::vector<std::string> pools6;
    std::vector<IpAddress> fixed; // exactly these; of a family that is listed, no other is taken
    std::string ns;               // of the pod; empty without Kubernetes
    std::string pod;
    std::map<std::string, std::string> namespace_labels;
};

class AddressSource {
public:
    AddressSource() = default;
    AddressSource(const AddressSource&) = delete;
    AddressSource& operator=(const AddressSource&) = delete;
    virtual ~AddressSource() = default;

    // One answer per request, in order: all addresses that were asked for, or an error and nothing
    // taken. A burst comes as one call, so that it can be one write per block. A request whose
    // handle holds addresses already gets fresh ones beside them: the caller releases first.
    // Exhausted: no address left; ConfigInvalid names the pool or address that cannot be given.
    virtual std::vector<Result<std::vector<IpAddress>>>
    assign(std::span<const AddressRequest> requests) = 0;

    // Gives back all addresses of each handle. One that holds none is no error.
    virtual std::vector<Result<void>> release(std::span<const std::string> handles) = 0;
};

} // namespace manx::cni
