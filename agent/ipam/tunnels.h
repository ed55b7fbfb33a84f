// SPDX-License-Identifier: Apache-2.0
// The addresses of this node's tunnel devices (IPIP, VXLAN, WireGuard): from the pools whose
// encapsulation asks for one, named in the Node object, where the other nodes read them. Handles,
// attributes and the choice of pools are Calico's, so a node keeps its addresses when it comes
// from Calico or goes back.
//
// A pass compares what is wanted with what is stored, and does the next step only:
//
//   address allocated --> the caller writes the Node --> next pass: what the Node no longer names
//   is released
//
// So nothing is released that other nodes still send to, and a pass that dies anywhere is made up
// for by the next one: an address under our handle that the Node does not name is named, or else
// released. Each write is a compare-and-swap on one object.
//
// Threading: calls block on the datastore, from one thread at a time.
#pragma once

#include "agent/datastore/store.h"
#include "agent/ipam/ipam.h"
#include "base/ip.h"
#include "base/result.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace manx::ipam {

struct TunnelPass {
    // Annotations of the Node to be written, and their values; empty: to be removed. The next pass
    // belongs after that write.
    std::map<std::string, std::string> annotations;
    // Of the kinds of tunnels that could not be served; the others were. Each says which.
    std::vector<Error> errors;
};

class Tunnels {
public:
    // Both outlive this.
    Tunnels(datastore::Store& store, Allocator& allocator, std::string node);

    // host_encryption: WireGuard encrypts between hosts too, and its devices
    // have no addresses of their own. Errors: pools or Node could not be read. No Node: nothing is
    // done, and that is no error.
    Result<TunnelPass> pass(bool host_encryption);

private:
    struct View;
    struct Kind;

    [[nodiscard]] Result<View> read_view(bool host_encryption) const;
    Result<void> settle(const Kind& kind, const View& view, TunnelPass& out);
    Result<void> release_all_but(const std::string& handle, const std::optional<IpAddress>& kept);
    Result<void> release_nameless(const View& view, const IpAddress& address);
    // Whether the address is the Node's own now, by an allocation as it should be.
    Result<bool> keep(const Kind& kind, const View& view, const IpAddress& address);

    static const std::vector<Kind>& kinds();

    datastore::Store& store_;
    Allocator& allocator_;
    std::string node_;
};

} // namespace manx::ipam
