// SPDX-License-Identifier: Apache-2.0
#include "agent/app/enforce_waiters.h"

#include <utility>

namespace manx::app {

void EnforceWaiters::settle(const Result<void>& written,
                            const std::function<bool(const std::string& interface)>& in_force,
                            Time now) {
    std::vector<std::pair<Done, Result<void>>> answers;
    std::erase_if(waiting_, [&](Waiter& one) {
        if (written || in_force(one.interface)) {
            answers.emplace_back(std::move(one.done), Result<void>{});
        } else if (now - one.since >= kPatience) {
            answers.emplace_back(std::move(one.done), written);
        } else {
            return false;
        }
        return true;
    });
    for (auto& [done, answer] : answers) {
        done(std::move(answer));
    }
}

} // namespace manx::app
