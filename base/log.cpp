// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

namespace manx::log {

void configure(std::string_view level) {
    auto parsed = spdlog::level::from_str(std::string(level));
    if (parsed == spdlog::level::off && level != "off") {
        parsed = spdlog::level::info;
    }
    spdlog::set_level(parsed);
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %n: %v");
}

Logger get(const std::string& module) {
    if (auto logger = spdlog::get(module)) {
        return logger;
    }
    try {
        return spdlog::stderr_logger_mt(module);
    } catch (const spdlog::spdlog_ex&) {
        return spdlog::get(module); // another thread was first
    }
}

} // namespace manx::log
