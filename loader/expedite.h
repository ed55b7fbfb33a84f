// SPDX-License-Identifier: Apache-2.0
// Short RCU grace periods for a moment. Each tcx attach and detach waits for one under the kernel's
// network lock, and asks for a normal one (tens of milliseconds) where the rest of networking asks
// for an expedited one; /sys/kernel/rcu_expedited makes the normal ones expedited.
//
// Where the setting is on already, cannot be written, or another process has it in hand, nothing is
// changed: what is done then only takes longer. A process that is killed while it has the setting
// on leaves a note (an empty folder), by which the next start puts it back.
//
// Threading: any.
#pragma once

#include "base/unique_fd.h"

#include <string>

namespace manx::loader {

class Expedite {
public:
    // note: path of the folder; on bpffs, which is gone after a boot, as the setting is.
    explicit Expedite(const std::string& note);
    Expedite(const Expedite&) = delete;
    Expedite& operator=(const Expedite&) = delete;
    ~Expedite();

    // What a killed process left is put back.
    static void recover(const std::string& note);

private:
    std::string note_;
    UniqueFd setting_; // none: nothing to put back
};

} // namespace manx::loader
