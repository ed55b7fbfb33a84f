// SPDX-License-Identifier: Apache-2.0
// From the datastore's objects to Inputs: keeps the little that BGP needs of each object, applies
// the defaults (contract 1.5, 1.7), resolves selectors, community names, durations and Secrets.
// Pure.
#pragma once

#include "agent/api/bgp.h"
#include "agent/api/ipam.h"
#include "agent/api/kind.h"
#include "agent/api/node.h"
#include "agent/api/pool.h"
#include "agent/api/secret.h"
#include "agent/api/service.h"
#include "agent/bgp/inputs.h"

#include <map>
#include <string>
#include <vector>

namespace manx::bgp {

// "90s", "1h30m", "1.5s" as Go writes durations; whole seconds, rounded up.
Result<std::chrono::seconds> parse_duration(std::string_view text);

class ObjectTable {
public:
    // secret_namespace: where Secrets of passwords are, Calico's own.
    ObjectTable(std::string node_name, std::string secret_namespace);

    // True where something that BGP looks at has changed.
    bool upsert(const api::Node& object);
    bool upsert(const api::BgpConfiguration& object);
    bool upsert(const api::BgpPeer& object);
    bool upsert(const api::BgpFilter& object);
    bool upsert(const api::IpPool& object);
    bool upsert(const api::BlockAffinity& object);
    bool upsert(const api::Service& object);
    bool upsert(const api::EndpointSlice& object);
    bool upsert(const api::Secret& object);
    bool remove(api::Kind kind, const std::string& ns, const std::string& name);

    // Everything that is known now; what cannot be used is left out and named in problems.
    [[nodiscard]] Inputs inputs(std::vector<std::string>& problems) const;

private:
    using Name = std::pair<std::string, std::string>; // namespace, name

    struct Slice {
        std::string service;
        bool ready_here = false;
        bool ready_elsewhere = false;
        bool operator==(const Slice&) const = default;
    };

    [[nodiscard]] Settings settings(std::vector<std::string>& problems) const;
    [[nodiscard]] std::optional<std::string> password(const api::SecretKeyRef& ref) const;
    [[nodiscard]] Result<Peer> peer(const api::BgpPeer& object) const;

    std::string node_name_;
    std::string secret_namespace_;
    std::map<std::string, Node> nodes_;
    std::map<std::string, api::BgpConfiguration> configurations_;
    std::map<std::string, api::BgpPeer> peers_;
    std::map<std::string, api::BgpFilter> filters_;
    std::map<std::string, Pool> pools_;
    std::map<std::string, Block> blocks_;
    std::map<Name, Service> services_;
    std::map<Name, Slice> slices_;
    std::map<std::string, std::map<std::string, std::string>> secrets_;
};

} // namespace manx::bgp
