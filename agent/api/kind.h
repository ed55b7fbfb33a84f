// SPDX-License-Identifier: Apache-2.0
// The kinds of objects that Manx reads and writes, as Calico (crd.projectcalico.org/v1, and
// projectcalico.org/v3) and Kubernetes define them.
#pragma once

#include "base/result.h"

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace manx::api {

enum class Kind : uint8_t {
    // Kubernetes
    Node,
    Namespace,
    ServiceAccount,
    Pod,
    Service,
    EndpointSlice,
    Secret,
    K8sNetworkPolicy,
    ClusterNetworkPolicy,
    // Calico
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    BlockAffinity,
    CalicoNodeStatus,
    ClusterInformation,
    FelixConfiguration,
    GlobalNetworkPolicy,
    StagedGlobalNetworkPolicy,
    GlobalNetworkSet,
    HostEndpoint,
    IpamBlock,
    IpamHandle,
    IpamConfig,
    IpPool,
    IpReservation,
    KubeControllersConfiguration,
    NetworkPolicy,
    StagedNetworkPolicy,
    StagedKubernetesNetworkPolicy,
    NetworkSet,
    Tier,
};

struct KindInfo {
    Kind kind{};
    std::string_view name;        // "IPPool", as in the object's kind field
    std::string_view api_version; // as stored: "crd.projectcalico.org/v1", "v1", ...
    std::string_view plural;      // "ippools"
    bool namespaced = false;
    std::span<const std::string_view> aliases; // what calicoctl and kubectl accept besides
};

std::span<const KindInfo> all_kinds();
const KindInfo& info(Kind kind);
// What people are told: the kind's own name, but for Kubernetes' NetworkPolicy, which would be
// taken for Calico's: "KubernetesNetworkPolicy", as Calico calls it. No two kinds share one.
std::string_view title(Kind kind);
// By the object's own apiVersion and kind. Calico kinds are found under crd.projectcalico.org/v1
// and projectcalico.org/v3; IPAMConfig and IPAMConfiguration are one.
Result<Kind> find_kind(std::string_view api_version, std::string_view name);
// By what a person types: singular, plural, short name, any case.
Result<Kind> find_alias(std::string_view word);

} // namespace manx::api
