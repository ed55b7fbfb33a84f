// SPDX-License-Identifier: Apache-2.0
// Doing a read-change-write again when its compare-and-swap was lost.
#pragma once

#include "base/result.h"

#include <functional>
#include <string>

namespace manx::ipam {

struct Retry {
    unsigned tries = 100;
    std::function<void(unsigned)> backoff; // called between tries, counting from 0

    // Runs fn until it returns anything but Conflict.
    template <typename Fn>
    auto run(const std::string& what, Fn fn) const -> decltype(fn()) {
        for (unsigned i = 0; i < tries; i++) {
            auto result = fn();
            if (result || result.error().kind != ErrorKind::Conflict) {
                return result;
            }
            backoff(i);
        }
        return fail(ErrorKind::Conflict,
                    what + ": changed by others at each of " + std::to_string(tries) + " tries");
    }
};

// Random waits, growing from 1 ms to 50 ms.
void random_backoff(unsigned attempt);

// What was read a moment ago is no longer there: as good as changed by somebody else.
inline Error gone_is_conflict(Error error) {
    if (error.kind == ErrorKind::NotFound) {
        error.kind = ErrorKind::Conflict;
    }
    return error;
}

} // namespace manx::ipam
