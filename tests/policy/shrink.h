// SPDX-License-Identifier: Apache-2.0
// Smaller counter-examples: what can be left out of objects while a test still fails.
#pragma once

#include <nlohmann/json.hpp>

#include <functional>
#include <vector>

namespace manx::testing_policy {

using nlohmann::json;

using Fails = std::function<bool(const std::vector<json>&)>;

// Leaves out objects, then members and entries of their specs, labels and the like, the big ones
// first; tries at most so many times.
std::vector<json> shrink(std::vector<json> objects, const Fails& fails, int tries = 3000);

} // namespace manx::testing_policy
