// SPDX-License-Identifier: Apache-2.0
// Names that Calico derives from others: devices, endpoints, IPAM objects and their labels. They
// must be equal byte for byte, since other programs on the cluster look objects up by them.
#pragma once

#include "base/ip.h"

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace manx::api {

// Host side device of a pod: prefix + 11 hex digits of sha1("ns.pod"); fits IFNAMSIZ with "cali".
std::string workload_interface(std::string_view ns, std::string_view pod,
                               std::string_view prefix = "cali");
// Name of the pod's WorkloadEndpoint: "<node>-k8s-<pod>-eth0" with inner dashes doubled.
std::string workload_endpoint_name(std::string_view node, std::string_view pod);
// Name of the endpoint's status file: "k8s <ns>%2F<pod> eth0".
std::string endpoint_status_file(std::string_view ns, std::string_view pod);

// "10-65-0-0-26": the name of the block's IPAMBlock.
std::string block_name(const Cidr& block);
// The reverse; nullopt if no block has that name.
std::optional<Cidr> block_of_name(std::string_view name);
// "<host>-10-65-0-0-26", shortened with a hash from 253 characters on.
std::string affinity_name(std::string_view host, const Cidr& block);
// Lower case of the handle id.
std::string handle_name(std::string_view handle_id);

inline constexpr std::string_view kHostnameHashLabel = "projectcalico.org/hostname-hash";
inline constexpr std::string_view kAffinityTypeLabel = "projectcalico.org/affinity-type";
inline constexpr std::string_view kIpVersionLabel = "projectcalico.org/ip-version";

// base32 (52 characters, no padding) of SHA3-256(host).
std::string hostname_hash(std::string_view host);
// The three labels that every BlockAffinity must carry. type: "host" or "virtual".
std::map<std::string, std::string> affinity_labels(std::string_view host, std::string_view type,
                                                   Family family);

} // namespace manx::api
