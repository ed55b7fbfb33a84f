// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/error.h"

#include <nlohmann/json.hpp>

namespace manx::cni {

namespace {

Code code_of(ErrorKind kind) {
    switch (kind) {
    case ErrorKind::ConfigInvalid:
        return Code::InvalidConfig;
    case ErrorKind::ConfigReality:
    case ErrorKind::NotFound:
    case ErrorKind::Conflict:
    case ErrorKind::AlreadyExists:
    case ErrorKind::Unavailable:
        return Code::TryAgainLater;
    case ErrorKind::Exhausted:
        return Code::NoAddress;
    case ErrorKind::System:
        return Code::IoFailure;
    case ErrorKind::Bug:
    case ErrorKind::Library:
        break;
    }
    return Code::Internal;
}

} // namespace

CniError to_cni_error(const Error& error) {
    return {code_of(error.kind), error.text(), std::string(to_string(error.kind))};
}

std::string render_error(std::string_view version, const CniError& error) {
    nlohmann::json out = {
        {"cniVersion", version}, {"code", static_cast<int>(error.code)}, {"msg", error.message}};
    if (!error.details.empty()) {
        out["details"] = error.details;
    }
    // Bytes that are no UTF-8 may have come in with a configuration.
    return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

} // namespace manx::cni
