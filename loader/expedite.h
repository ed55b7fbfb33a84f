// SPDX-License-Identifier: Apache-2.0
// Short RCU grace periods for a moment. Each tcx attach and detach, and the removal of a device
// with tcx programs, waits for one under the kernel's network lock, and asks for a normal one (tens
// of milliseconds) where the rest of networking asks for an expedited one;
// /sys/kernel/rcu_expedited makes the normal ones expedited.
//
// Where the setting is on already, cannot be written, or another process has it in hand, nothing is
// changed: what is done then only takes longer. A process that is killed while it has the setting
// on leaves a note (an empty folder), by which the next start puts it back.
//
// Threading: any; several at once share the setting.
#pragma once

#include <string>

namespace manx::loader {

class Expedite {
public:
    Expedite();
    Expedite(const Expedite&) = delete;
    Expedite& operator=(const Expedite&) = delete;
    ~Expedite();

    // note: path of the folder; on bpffs, which is gone after a boot, as the setting is. What a
    // killed process left is put back. Before this is called nothing is ever expedited.
    static void begin(const std::string& note);
};

} // namespace manx::loader
