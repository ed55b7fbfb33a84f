// SPDX-License-Identifier: Apache-2.0
// The little JSON that the plugin itself needs: two keys of the network configuration, and error
// objects. The agent parses the configuration in earnest.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace manx::cni::plugin {

// The string value of a key of the outermost object; nothing when it is not there, is no string,
// or the text is no object. Escapes other than \" \\ \/ make it nothing.
std::optional<std::string> top_level_string(std::string_view json, std::string_view key);

// The text as a JSON string, quotes included.
std::string quoted(std::string_view text);

} // namespace manx::cni::plugin
