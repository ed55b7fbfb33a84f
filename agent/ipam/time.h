// SPDX-License-Identifier: Apache-2.0
// Wall-clock time as IPAM objects carry it. The clock is injected, so that tests can jump.
#pragma once

#include "base/result.h"

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

namespace manx::ipam {

using Time = std::chrono::sys_time<std::chrono::nanoseconds>;
using Clock = std::function<Time()>;

Time system_now();

// "2026-08-22T10:00:00Z": whole seconds, as Kubernetes writes times.
std::string rfc3339(Time time);
// Accepts fractions and numeric offsets. ConfigInvalid.
Result<Time> parse_rfc3339(std::string_view text);
// "2026-08-22 10:00:00.123 +0000 UTC": what Go's time.Time.String() prints; the allocation
// attribute `timestamp` has this form.
std::string go_time(Time time);
// The reverse of go_time. ConfigInvalid.
Result<Time> parse_go_time(std::string_view text);

} // namespace manx::ipam
