// SPDX-License-Identifier: Apache-2.0
// Handles: how many addresses an owner has in which block. A handle may count too much after a
// crash, never too little.
#pragma once

#include "agent/ipam/repository.h"
#include "agent/ipam/retry.h"
#include "base/result.h"

#include <map>
#include <string>

namespace manx::ipam {

class Handles {
public:
    Handles(Repository repository, Retry retry)
        : repository_(repository), retry_(std::move(retry)) {}

    // Remembers handles within one request, so that its second family writes without reading.
    using Memo = std::map<std::string, Stored<api::IpamHandle>>;

    Result<void> increment(const std::string& id, const Cidr& block, unsigned count, Memo& memo);
    // Not below zero; the handle is deleted with its last block. No such handle: fine.
    Result<void> decrement(const std::string& id, const Cidr& block, unsigned count);
    // Takes away what `seen` counted: all of it, if the handle did not change since it was read.
    Result<void> subtract(const Stored<api::IpamHandle>& seen);

private:
    Result<void> put(Stored<api::IpamHandle>& handle); // writes, or deletes what counts nothing

    Repository repository_;
    Retry retry_;
};

} // namespace manx::ipam
