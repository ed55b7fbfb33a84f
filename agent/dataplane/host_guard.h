// SPDX-License-Identifier: Apache-2.0
// Where the kernel has no netfilter programs (before Linux 6.4), nothing judges a pod's packet to a
// service whose backend is this very host. The guard drops such packets unless their mark says that
// nothing could deny them: table "inet manx_guard", one rule.
#pragma once

#include "base/result.h"

#include <string>

namespace manx::dataplane {

// The nft commands that put the guard in force, or take it away; from either state.
std::string render_host_guard(bool wanted);

Result<void> set_host_guard(bool wanted);

} // namespace manx::dataplane
