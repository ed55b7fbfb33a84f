// SPDX-License-Identifier: Apache-2.0
// What a Loader may be told. Sizes are in entries and count only when a map is created: an adopted
// map keeps its size.
#pragma once

#include "maps/abi/policy.h"

#include <cstdint>

namespace manx::loader {

struct MapSizes {
    uint32_t endpoints = 4096;   // per family
    uint32_t classes = 262144;   // per family; memory follows use
    uint32_t networks = 262144;  // per family; memory follows use
    uint32_t policies = 1048576; // (set, class) pairs; memory follows use
    uint32_t ports = 262144;     // port ranges of all tables, 16 bytes each
    uint32_t rules = MANX_RULES; // rule hit counters, 8 bytes each per CPU
    uint32_t flows4 = 262144;    // live flows; about 230 bytes each, with their tickets
    uint32_t flows6 = 131072;    // about 350 bytes each
    // Flows not yet proven alive, and closed ones. A little over a power of two: the kernel makes
    // as many hash chains as the next one, and a full table with chains of one half is 6 % of a new
    // flow cheaper than with chains of one.
    uint32_t new_flows4 = 66000;
    uint32_t new_flows6 = 33000;
    uint32_t fragments = 8192; // datagrams in flight, per family
    uint32_t counters = 8192;  // (interface, hook, reason)
    uint32_t events = 262144;  // bytes of the ring buffer; a power of two, whole pages
};

struct LoadOptions {
    MapSizes sizes;
    // Attach with clsact and cls_bpf even where the kernel has tcx.
    bool force_clsact = false;
    // False: go without the netfilter program, as on a kernel before Linux 6.4.
    bool use_netfilter = true;
};

} // namespace manx::loader
