// SPDX-License-Identifier: Apache-2.0
#include "agent/api/namespace.h"

#include "agent/api/fields.h"

#include <nlohmann/json.hpp>

namespace manx::api {

namespace {

template <typename T>
Result<T> read(Kind kind, const nlohmann::json& object) {
    Problems problems{subject_of(kind, object), {}};
    T out;
    out.meta = read_meta(kind, object, problems);
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return out;
}

} // namespace

Result<Namespace> Namespace::from_json(const nlohmann::json& object) {
    return read<Namespace>(Kind::Namespace, object);
}

Result<ServiceAccount> ServiceAccount::from_json(const nlohmann::json& object) {
    return read<ServiceAccount>(Kind::ServiceAccount, object);
}

} // namespace manx::api
