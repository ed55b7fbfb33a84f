// SPDX-License-Identifier: Apache-2.0
// Objects as the datastore holds them, into a calculator: for tools and tests that have the
// objects at hand rather than a watch.
#pragma once

#include "agent/calc/policy_calculator.h"

#include <nlohmann/json_fwd.hpp>

namespace manx::calc {

// ConfigInvalid where the object cannot be read; kinds that policy does not need are passed over.
Result<void> feed(PolicyCalculator& calculator, api::Kind kind, const nlohmann::json& object);
// The workload that a pod is on this node, as far as its object tells; for judging pods of any node
// as if they were here. index: a number of its own, for interface index and slot.
Result<dataplane::LocalEndpoint> local_from_pod(const nlohmann::json& object, uint16_t index);

} // namespace manx::calc
