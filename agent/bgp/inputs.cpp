// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace manx::bgp {

const Node* Inputs::own_node() const {
    auto it = std::find_if(nodes.begin(), nodes.end(),
                           [this](const Node& node) { return node.name == node_name; });
    return it == nodes.end() ? nullptr : &*it;
}

Result<Community> Community::parse(std::string_view text) {
    Community community;
    std::string_view rest = text;
    bool good = true;
    while (good) {
        auto colon = rest.find(':');
        std::string_view part = rest.substr(0, colon);
        uint32_t value = 0;
        auto [end, ec] = std::from_chars(part.data(), part.data() + part.size(), value);
        good = ec == std::errc{} && end == part.data() + part.size() && !part.empty();
        community.parts.push_back(value);
        if (colon == std::string_view::npos) {
            break;
        }
        rest.remove_prefix(colon + 1);
    }
    good = good && (community.parts.size() == 3 ||
                    (community.parts.size() == 2 && community.parts[0] <= UINT16_MAX &&
                     community.parts[1] <= UINT16_MAX));
    if (!good) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("\"{}\": expected a community as a:b (16 bits each) or a:b:c "
                                "(32 bits each)",
                                text));
    }
    return community;
}

} // namespace manx::bgp
