// SPDX-License-Identifier: Apache-2.0
// The kernel settings of a node that routes for pods.
#pragma once

#include "base/result.h"

#include <string_view>

namespace manx::dataplane {

// Forwarding on for both families. all.rp_filter off: the strictest of "all" and the device's own
// counts, and pods' replies may leave by another uplink than the request came from. Error: names
// the setting.
Result<void> apply_host_settings();

// Of one uplink: loose reverse path filter; and, since forwarding makes the kernel ignore router
// advertisements, accept_ra goes from 1 to 2, so that the node keeps its own default route.
Result<void> apply_uplink_settings(std::string_view device);

} // namespace manx::dataplane
