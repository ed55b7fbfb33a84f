// SPDX-License-Identifier: Apache-2.0
// Queueing disciplines of devices: which one is at the root, and which one packets that come in
// pass.
#pragma once

#include "agent/netlink/socket.h"
#include "base/result.h"

#include <cstdint>
#include <map>
#include <string>

namespace manx::netlink {

struct Qdiscs {
    std::string root;    // its kind: "tbf", "noqueue"; empty: none
    std::string ingress; // "ingress", "clsact"; empty: none
};

// By device; one without qdiscs is not among them. All devices in one go: the kernel tells
// everybody of its answer to a question about one, as if it had changed.
Result<std::map<uint32_t, Qdiscs>> list_qdiscs(Socket& socket);

} // namespace manx::netlink
