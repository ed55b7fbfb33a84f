// SPDX-License-Identifier: Apache-2.0
// What the running kernel has of what Manx needs. Loads and attaches nothing that stays.
#pragma once

#include "base/result.h"

#include <string>
#include <vector>

namespace manx::loader {

struct Feature {
    std::string name; // "BTF of the kernel", "helper bpf_redirect_peer", "tcx", ...
    bool present = false;
    bool required = true; // else Manx falls back, to what note says
    std::string note;
};

struct Probe {
    std::vector<Feature> features;

    // Names of required features that are missing, comma separated; empty: all are there.
    [[nodiscard]] std::string missing() const;
};

// ConfigReality without the right to use BPF: nothing can be said then.
Result<Probe> probe();

} // namespace manx::loader
