// SPDX-License-Identifier: Apache-2.0
// The BIRD 2 configuration of this node, for both families in one process. Pure, and the same text
// for the same inputs in any order: the text is what decides whether BIRD is reconfigured.
#pragma once

#include "agent/bgp/inputs.h"
#include "base/result.h"

#include <string>
#include <vector>

namespace manx::bgp {

struct Rendered {
    std::string text;
    // Peers and filters that were left out, and why; the rest stands.
    std::vector<std::string> problems;
};

// ConfigReality: the own node is not in the inputs. ConfigInvalid: a value that BIRD's syntax
// cannot hold.
Result<Rendered> render_bird_config(const Inputs& inputs);

} // namespace manx::bgp
