// SPDX-License-Identifier: Apache-2.0
// Kernel settings below /proc/sys, in the calling thread's network namespace.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>

namespace manx::netlink {

// path below /proc/sys ("net/ipv4/ip_forward"); the value without its line end.
Result<std::string> read_sysctl(std::string_view path);
// Writes only what differs: some settings take the kernel's network lock on each write.
// NotFound: the kernel has no such setting (IPv6 switched off at boot, for one).
Result<void> write_sysctl(std::string_view path, std::string_view value);

} // namespace manx::netlink
