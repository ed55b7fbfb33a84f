// SPDX-License-Identifier: Apache-2.0
// The core v1 Namespace and ServiceAccount: labels that their pods inherit.
#pragma once

#include "agent/api/meta.h"

namespace manx::api {

struct Namespace {
    ObjectMeta meta;

    static Result<Namespace> from_json(const nlohmann::json& object);
};

struct ServiceAccount {
    ObjectMeta meta;

    static Result<ServiceAccount> from_json(const nlohmann::json& object);
};

} // namespace manx::api
