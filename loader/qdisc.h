// SPDX-License-Identifier: Apache-2.0
// clsact qdiscs, as far as libbpf has no call for it: which devices have one, and what hangs on it.
// Used by the loader only.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <set>

namespace manx::loader {

// Devices of this network namespace.
Result<std::set<uint32_t>> devices_with_clsact();

// Takes the device's clsact qdisc away if no filter of anybody is left on it.
Result<void> remove_empty_clsact(uint32_t ifindex);

} // namespace manx::loader
