// SPDX-License-Identifier: Apache-2.0
#include "maps/program_barrier.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cstdint>

namespace manx::maps {

Result<void> ProgramBarrier::wait() {
    if (!outer_) {
        UniqueFd inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "manx_barrier", sizeof(uint32_t),
                                      sizeof(uint32_t), 1, nullptr));
        if (!inner) {
            return fail_errno("create a map to wait for programs");
        }
        LIBBPF_OPTS(bpf_map_create_opts, options,
                    .inner_map_fd = static_cast<uint32_t>(inner.get()));
        UniqueFd outer(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "manx_barriers", sizeof(uint32_t),
                                      sizeof(uint32_t), 1, &options));
        if (!outer) {
            return fail_errno("create a map of maps to wait for programs");
        }
        inner_ = std::move(inner);
        outer_ = std::move(outer);
    }
    const uint32_t zero = 0;
    const int inner = inner_.get();
    if (bpf_map_update_elem(outer_.get(), &zero, &inner, BPF_ANY) < 0) {
        return fail_errno("wait for programs");
    }
    return {};
}

} // namespace manx::maps
