// SPDX-License-Identifier: Apache-2.0
// A program at netfilter's LOCAL_IN of this network namespace: one pinned bpf_link per family
// (Linux 6.4 and later). Used by loader.cpp and probe.cpp only.
#pragma once

#include "base/result.h"

#include <bpf/bpf.h>

#include <cstdint>
#include <string>

namespace manx::loader {

// From Linux 6.4's uapi/linux/bpf.h, which Debian 12's headers do not have yet.
inline constexpr auto kAttachTypeNetfilter = static_cast<bpf_attach_type>(45);

inline bpf_prog_type netfilter_program_type() {
    // NOLINTNEXTLINE(clang-analyzer-optin.core.EnumCastOutOfRange): newer than the headers
    return static_cast<bpf_prog_type>(32);
}

// Tried with an empty program, which is not attached.
bool has_netfilter_programs();

// Names of the two links below <bpffs>/links.
bool is_to_host_link(const std::string& name);

// Both families, pinned in folder. A link that has this program stays as it is; the program of one
// cannot be replaced, so that another link takes over before the old one goes.
Result<void> attach_to_host(const std::string& folder, int program_fd);

// No error where there are no such links.
Result<void> detach_to_host(const std::string& folder);

} // namespace manx::loader
