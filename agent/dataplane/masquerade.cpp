// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/masquerade.h"

#include "agent/dataplane/nft.h"

#include <fmt/format.h>

namespace manx::dataplane {

namespace {

// An interval set; nft takes no overlapping elements, so covered prefixes are left out.
std::string set_text(const std::string& name, Family family, const std::set<Cidr>& cidrs) {
    std::string elements;
    const Cidr* covering = nullptr; // the order of Cidr puts a covering prefix first
    for (const auto& cidr : cidrs) {
        if (cidr.family() != family || (covering != nullptr && covering->contains(cidr))) {
            continue;
        }
        covering = &cidr;
        elements += (elements.empty() ? "" : ", ") + cidr.text();
    }
    return fmt::format("set {} {{ type {}; flags interval; {} }}\n", name,
                       family == Family::V4 ? "ipv4_addr" : "ipv6_addr",
                       elements.empty() ? "" : fmt::format("elements = {{ {} }}", elements));
}

} // namespace

std::string render_masquerade(const std::set<Cidr>& nat_pools, const std::set<Cidr>& all_pools) {
    // "add" first, so that "delete" succeeds whether the table was there or not.
    std::string text = "add table inet manx\ndelete table inet manx\n";
    if (nat_pools.empty()) {
        return text;
    }
    text += "table inet manx {\n";
    text += set_text("nat_pools4", Family::V4, nat_pools);
    text += set_text("all_pools4", Family::V4, all_pools);
    text += set_text("nat_pools6", Family::V6, nat_pools);
    text += set_text("all_pools6", Family::V6, all_pools);
    text += "chain postrouting {\n"
            "type nat hook postrouting priority srcnat; policy accept;\n"
            "ip saddr @nat_pools4 ip daddr != @all_pools4 oifname != \"cali*\" masquerade\n"
            "ip6 saddr @nat_pools6 ip6 daddr != @all_pools6 oifname != \"cali*\" masquerade\n"
            "}\n}\n";
    return text;
}

Result<void> Masquerade::apply(const std::set<Cidr>& nat_pools, const std::set<Cidr>& all_pools) {
    auto text = render_masquerade(nat_pools, all_pools);
    if (text == applied_) {
        return {};
    }
    TRY(run_nft("natOutgoing, table inet manx", text));
    applied_ = std::move(text);
    return {};
}

} // namespace manx::dataplane
