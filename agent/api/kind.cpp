// SPDX-License-Identifier: Apache-2.0
#include "agent/api/kind.h"

#include <fmt/format.h>

#include <algorithm>

namespace manx::api {

namespace {

using Words = std::span<const std::string_view>;

constexpr std::string_view kCrd = "crd.projectcalico.org/v1";
constexpr std::string_view kV3 = "projectcalico.org/v3";

// What calicoctl and kubectl accept besides the kind's name and its plural.
constexpr std::array<std::string_view, 2> kNode{"no", "nodes"};
constexpr std::array<std::string_view, 2> kNamespace{"ns", "namespaces"};
constexpr std::array<std::string_view, 1> kServiceAccount{"sa"};
constexpr std::array<std::string_view, 1> kPod{"po"};
constexpr std::array<std::string_view, 1> kService{"svc"};
constexpr std::array<std::string_view, 1> kEndpointSlice{"eps"};
constexpr std::array<std::string_view, 4> kK8sNetworkPolicy{
    "kubernetesnetworkpolicy", "kubernetesnetworkpolicies", "netpol", "knp"};
constexpr std::array<std::string_view, 2> kClusterNetworkPolicy{"kcnp", "clusternetworkpolicies"};
constexpr std::array<std::string_view, 2> kBgpConfiguration{"bgpconfig", "bgpconfigs"};
constexpr std::array<std::string_view, 2> kBgpPeer{"bgpp", "bgpps"};
constexpr std::array<std::string_view, 2> kBlockAffinity{"affinity", "affinities"};
constexpr std::array<std::string_view, 2> kCalicoNodeStatus{"nodestatus", "nodestatuses"};
constexpr std::array<std::string_view, 2> kClusterInformation{"clusterinfo", "clusterinfos"};
constexpr std::array<std::string_view, 2> kFelixConfiguration{"felixconfig", "felixconfigs"};
constexpr std::array<std::string_view, 3> kGlobalNetworkPolicy{"gnp", "gnps", "cgnp"};
constexpr std::array<std::string_view, 2> kStagedGlobalNetworkPolicy{"sgnp", "sgnps"};
constexpr std::array<std::string_view, 2> kGlobalNetworkSet{"gns", "gnss"};
constexpr std::array<std::string_view, 2> kHostEndpoint{"hep", "heps"};
constexpr std::array<std::string_view, 2> kIpamBlock{"block", "blocks"};
constexpr std::array<std::string_view, 2> kIpamHandle{"handle", "handles"};
constexpr std::array<std::string_view, 3> kIpamConfig{"ipamconfiguration", "ipamconfigurations",
                                                      "ipamconf"};
constexpr std::array<std::string_view, 4> kIpPool{"ipp", "ipps", "pool", "pools"};
constexpr std::array<std::string_view, 2> kIpReservation{"reservation", "reservations"};
constexpr std::array<std::string_view, 3> kKubeControllersConfiguration{"kcc", "kcconfig",
                                                                        "kubecontrollersconfig"};
constexpr std::array<std::string_view, 6> kNetworkPolicy{"np",     "nps",      "cnp",
                                                         "policy", "policies", "pol"};
constexpr std::array<std::string_view, 3> kStagedNetworkPolicy{"snp", "snps", "scnp"};
constexpr std::array<std::string_view, 2> kStagedKubernetesNetworkPolicy{"sknp", "sknps"};
constexpr std::array<std::string_view, 2> kNetworkSet{"netset", "netsets"};
constexpr std::array<std::string_view, 1> kTier{"tiers"};

// In the order of the enum, which info() relies on.
constexpr std::array kKinds{
    KindInfo{Kind::Node, "Node", "v1", "nodes", false, kNode},
    KindInfo{Kind::Namespace, "Namespace", "v1", "namespaces", false, kNamespace},
    KindInfo{Kind::ServiceAccount, "ServiceAccount", "v1", "serviceaccounts", true,
             kServiceAccount},
    KindInfo{Kind::Pod, "Pod", "v1", "pods", true, kPod},
    KindInfo{Kind::Service, "Service", "v1", "services", true, kService},
    KindInfo{Kind::EndpointSlice, "EndpointSlice", "discovery.k8s.io/v1", "endpointslices", true,
             kEndpointSlice},
    KindInfo{Kind::Secret, "Secret", "v1", "secrets", true, Words{}},
    KindInfo{Kind::K8sNetworkPolicy, "NetworkPolicy", "networking.k8s.io/v1", "networkpolicies",
             true, kK8sNetworkPolicy},
    KindInfo{Kind::ClusterNetworkPolicy, "ClusterNetworkPolicy",
             "policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies", false,
             kClusterNetworkPolicy},
    KindInfo{Kind::BgpConfiguration, "BGPConfiguration", kCrd, "bgpconfigurations", false,
             kBgpConfiguration},
    KindInfo{Kind::BgpFilter, "BGPFilter", kCrd, "bgpfilters", false, Words{}},
    KindInfo{Kind::BgpPeer, "BGPPeer", kCrd, "bgppeers", false, kBgpPeer},
    KindInfo{Kind::BlockAffinity, "BlockAffinity", kCrd, "blockaffinities", false, kBlockAffinity},
    KindInfo{Kind::CalicoNodeStatus, "CalicoNodeStatus", kCrd, "caliconodestatuses", false,
             kCalicoNodeStatus},
    KindInfo{Kind::ClusterInformation, "ClusterInformation", kCrd, "clusterinformations", false,
             kClusterInformation},
    KindInfo{Kind::FelixConfiguration, "FelixConfiguration", kCrd, "felixconfigurations", false,
             kFelixConfiguration},
    KindInfo{Kind::GlobalNetworkPolicy, "GlobalNetworkPolicy", kCrd, "globalnetworkpolicies", false,
             kGlobalNetworkPolicy},
    KindInfo{Kind::StagedGlobalNetworkPolicy, "StagedGlobalNetworkPolicy", kCrd,
             "stagedglobalnetworkpolicies", false, kStagedGlobalNetworkPolicy},
    KindInfo{Kind::GlobalNetworkSet, "GlobalNetworkSet", kCrd, "globalnetworksets", false,
             kGlobalNetworkSet},
    KindInfo{Kind::HostEndpoint, "HostEndpoint", kCrd, "hostendpoints", false, kHostEndpoint},
    KindInfo{Kind::IpamBlock, "IPAMBlock", kCrd, "ipamblocks", false, kIpamBlock},
    KindInfo{Kind::IpamHandle, "IPAMHandle", kCrd, "ipamhandles", false, kIpamHandle},
    KindInfo{Kind::IpamConfig, "IPAMConfig", kCrd, "ipamconfigs", false, kIpamConfig},
    KindInfo{Kind::IpPool, "IPPool", kCrd, "ippools", false, kIpPool},
    KindInfo{Kind::IpReservation, "IPReservation", kCrd, "ipreservations", false, kIpReservation},
    KindInfo{Kind::KubeControllersConfiguration, "KubeControllersConfiguration", kCrd,
             "kubecontrollersconfigurations", false, kKubeControllersConfiguration},
    KindInfo{Kind::NetworkPolicy, "NetworkPolicy", kCrd, "networkpolicies", true, kNetworkPolicy},
    KindInfo{Kind::StagedNetworkPolicy, "StagedNetworkPolicy", kCrd, "stagednetworkpolicies", true,
             kStagedNetworkPolicy},
    KindInfo{Kind::StagedKubernetesNetworkPolicy, "StagedKubernetesNetworkPolicy", kCrd,
             "stagedkubernetesnetworkpolicies", true, kStagedKubernetesNetworkPolicy},
    KindInfo{Kind::NetworkSet, "NetworkSet", kCrd, "networksets", true, kNetworkSet},
    KindInfo{Kind::Tier, "Tier", kCrd, "tiers", false, kTier},
};

constexpr bool in_enum_order() {
    for (size_t i = 0; i < kKinds.size(); i++) {
        if (static_cast<size_t>(kKinds[i].kind) != i) {
            return false;
        }
    }
    return kKinds.size() == static_cast<size_t>(Kind::Tier) + 1;
}

static_assert(in_enum_order());

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return std::ranges::equal(a, b, [&](char x, char y) { return lower(x) == lower(y); });
}

bool known_as(const KindInfo& kind, std::string_view word) {
    return equal_ignoring_case(word, kind.plural) || equal_ignoring_case(word, kind.name) ||
           std::ranges::any_of(kind.aliases,
                               [&](auto alias) { return equal_ignoring_case(word, alias); });
}

} // namespace

std::span<const KindInfo> all_kinds() {
    return kKinds;
}

const KindInfo& info(Kind kind) {
    return kKinds.at(static_cast<size_t>(kind));
}

std::string_view title(Kind kind) {
    return kind == Kind::K8sNetworkPolicy ? "KubernetesNetworkPolicy" : info(kind).name;
}

Result<Kind> find_kind(std::string_view api_version, std::string_view name) {
    if (api_version == kV3) {
        api_version = kCrd;
        if (name == "Node") { // Calico's view of the Kubernetes object
            return Kind::Node;
        }
    }
    if (api_version == kCrd && name == "IPAMConfiguration") {
        return Kind::IpamConfig;
    }
    auto at = std::ranges::find_if(kKinds, [&](const KindInfo& kind) {
        return kind.api_version == api_version && kind.name == name;
    });
    if (at == kKinds.end()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("apiVersion \"{}\", kind \"{}\": unknown kind of object",
                                api_version, name));
    }
    return at->kind;
}

Result<Kind> find_alias(std::string_view word) {
    // Calico's kinds first: "networkpolicy" is Calico's, as with calicoctl.
    for (bool calico : {true, false}) {
        for (const KindInfo& kind : kKinds) {
            if ((kind.api_version == kCrd) == calico && known_as(kind, word)) {
                return kind.kind;
            }
        }
    }
    return fail(ErrorKind::ConfigInvalid, fmt::format("\"{}\": unknown kind of object", word));
}

} // namespace manx::api
