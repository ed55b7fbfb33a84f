// SPDX-License-Identifier: Apache-2.0
// The two ways to hang a program on a device: tcx links (kernel 6.6 and later), which are pinned
// and replaced atomically, and cls_bpf filters on a clsact qdisc. Used by loader.cpp only.
#pragma once

#include "base/result.h"
#include "maps/abi/verdict.h"

#include <cstdint>
#include <string>

namespace manx::loader {

// "<ifindex>_<hook>": a link's name below <bpffs>/links.
std::string link_name(uint32_t ifindex, manx_hook hook);
bool parse_link_name(const std::string& name, uint32_t& ifindex, manx_hook& hook);

bool is_ingress(manx_hook hook);

// Whether the kernel knows tcx: tried on no interface, so nothing is attached.
bool has_tcx(int program_fd);

// Creates the link and pins it at path, or puts the program into the link that is pinned there.
// A pinned link whose interface is gone is replaced.
Result<void> attach_tcx(const std::string& path, uint32_t ifindex, manx_hook hook, int program_fd);
// Puts the program into the pinned link. False: the link's interface is gone.
Result<bool> update_tcx(const std::string& path, int program_fd);

// Whether the pinned link is on the interface, with this program.
Result<bool> has_tcx_link(const std::string& path, uint32_t ifindex, int program_fd);
// Removes the pin of a link whose interface is gone. False: it is alive, on a newer interface of
// the same number perhaps, and stays.
Result<bool> remove_dead_link(const std::string& path);

// Takes the program off the device and removes the pin; no error where there is none. Removing the
// pin alone would leave it there until the kernel gets round to freeing the link.
Result<void> detach_tcx(const std::string& path);

// Adds or atomically replaces our filter.
Result<void> attach_clsact(uint32_t ifindex, manx_hook hook, int program_fd);
// Whether our filter is there, with this program.
Result<bool> has_clsact_filter(uint32_t ifindex, manx_hook hook, int program_fd);
// No error where nothing is attached or the interface is gone.
Result<void> detach_clsact(uint32_t ifindex, manx_hook hook);
// Our filters on all interfaces of this network namespace.
Result<void> detach_clsact_everywhere();

} // namespace manx::loader
