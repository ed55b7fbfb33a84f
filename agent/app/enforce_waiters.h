// SPDX-License-Identifier: Apache-2.0
// Who waits to hear that a workload is enforced, a CNI ADD as a rule. While the tables are behind,
// a workload that is in them has a policy, if an old one, and its ADD is not to fail because
// somebody else's does not fit. One that is not in them is tried again for a few seconds.
//
// Threading: one thread.
#pragma once

#include "base/result.h"

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace manx::app {

class EnforceWaiters {
public:
    using Time = std::chrono::steady_clock::time_point;
    using Done = std::function<void(Result<void>)>;

    static constexpr std::chrono::seconds kPatience{5};

    // interface: of the workload.
    void add(const std::string& interface, Time now, Done done) {
        waiting_.push_back({interface, now, std::move(done)});
    }

    // After a try. Calls those that have their answer, which may add others.
    void settle(const Result<void>& written,
                const std::function<bool(const std::string& interface)>& in_force, Time now);

    [[nodiscard]] bool empty() const { return waiting_.empty(); }

private:
    struct Waiter {
        std::string interface;
        Time since;
        Done done;
    };

    std::vector<Waiter> waiting_;
};

} // namespace manx::app
