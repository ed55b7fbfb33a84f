// SPDX-License-Identifier: Apache-2.0
// Named loggers on stderr. Levels by meaning: error = an operator must act; warn = degraded;
// info = a state changed; debug = for us. Log where an error is handled, not where it arises.
// A line is a sentence with a "key=value" tail.
#pragma once

#include <spdlog/spdlog.h>

#include <memory>
#include <string>
#include <string_view>

namespace manx::log {

using Logger = std::shared_ptr<spdlog::logger>;

// level: trace, debug, info, warn, error, off; anything else is info. Call once, early.
void configure(std::string_view level);
// The logger of a module, made at the first call.
Logger get(const std::string& module);

} // namespace manx::log
