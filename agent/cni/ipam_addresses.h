// SPDX-License-Identifier: Apache-2.0
// AddressSource over the node's IPAM allocator.
#pragma once

#include "agent/cni/address_source.h"

#include <string>
#include <utility>

namespace manx::ipam {
class Allocator;
}

namespace manx::cni {

class IpamAddresses : public AddressSource {
public:
    // The allocator outlives this.
    IpamAddresses(ipam::Allocator& allocator, std::string node)
        : allocator_(allocator), node_(std::move(node)) {}

    std::vector<Result<std::vector<IpAddress>>>
    assign(std::span<const AddressRequest> requests) override;
    std::vector<Result<void>> release(std::span<const std::string> handles) override;

private:
    Result<std::vector<IpAddress>> assign_fixed(const AddressRequest& request);
    [[nodiscard]] std::map<std::string, std::string>
    attributes(const AddressRequest& request) const;

    ipam::Allocator& allocator_;
    std::string node_;
};

} // namespace manx::cni
