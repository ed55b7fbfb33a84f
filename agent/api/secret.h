// SPDX-License-Identifier: Apache-2.0
// The core v1 Secret: passwords of BGP sessions.
#pragma once

#include "agent/api/meta.h"

#include <map>
#include <string>

namespace manx::api {

struct Secret {
    ObjectMeta meta;
    std::map<std::string, std::string> data; // decoded; stringData over data

    static Result<Secret> from_json(const nlohmann::json& object);
};

} // namespace manx::api
