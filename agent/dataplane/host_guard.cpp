// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/host_guard.h"

#include "agent/dataplane/nft.h"
#include "maps/abi/verdict.h"

#include <fmt/format.h>

namespace manx::dataplane {

std::string render_host_guard(bool wanted) {
    // "add" first, so that "delete" succeeds whether the table was there or not.
    std::string text = "add table inet manx_guard\ndelete table inet manx_guard\n";
    if (wanted) {
        // Behind IPVS, which translates at this hook too, and out of the way of the links' own
        // priorities (loader/netfilter.cpp).
        text += fmt::format("table inet manx_guard {{\n"
                            "chain input {{\n"
                            "type filter hook input priority 120; policy accept;\n"
                            "meta mark & {:#x} == {:#x} counter drop\n"
                            "}}\n}}\n",
                            MANX_MARK_KIND, MANX_MARK_DEFERRED);
    }
    return text;
}

Result<void> set_host_guard(bool wanted) {
    return run_nft("services on this host", render_host_guard(wanted));
}

} // namespace manx::dataplane
