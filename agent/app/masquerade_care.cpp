// SPDX-License-Identifier: Apache-2.0
#include "agent/app/masquerade_care.h"

#include "base/log.h"

#include <chrono>

namespace manx::app {

void MasqueradeCare::apply() {
    constexpr auto kRetry = std::chrono::seconds(5);
    auto applied = masquerade_.apply(pools_.nat_outgoing(), pools_.all());
    auto trouble = applied ? std::string() : applied.error().text();
    if (trouble != trouble_ && !applied) {
        log::get("agent")->error("pods have no way out of the cluster yet reason=\"{}\"", trouble);
    }
    trouble_ = std::move(trouble);
    retry_ = {};
    if (!applied) {
        if (auto timer = loop_.add_timer(kRetry, [this] {
                apply();
                retried_();
            })) {
            retry_ = std::move(*timer);
        }
    }
}

} // namespace manx::app
