// SPDX-License-Identifier: Apache-2.0
// YAML as Kubernetes' tools read and write it: JSON in another dress. Quoted scalars are strings,
// plain ones may be numbers, booleans (yes and no too) or null.
#pragma once

#include "base/result.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace manx::ctl {

// All documents of a stream, without empty ones. ConfigInvalid names line and column. JSON is
// taken as well. Anchors, aliases and merge keys work, within bounds; a key given twice is an
// error.
Result<std::vector<nlohmann::json>> parse_yaml(std::string_view text);

// One document, block style, keys in the object's order; ends with a newline.
std::string to_yaml(const nlohmann::json& value);

} // namespace manx::ctl
