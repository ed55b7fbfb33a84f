// SPDX-License-Identifier: Apache-2.0
// Errors as a container runtime sees them: the codes of the CNI specification.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>

namespace manx::cni {

enum class Code : int {
    IncompatibleVersion = 1,
    UnsupportedField = 2,
    UnknownContainer = 3, // nothing to clean up
    InvalidEnvironment = 4,
    IoFailure = 5,
    DecodeFailure = 6,
    InvalidConfig = 7,
    TryAgainLater = 11,
    NotAvailable = 50, // STATUS: ADD cannot be served
    // From 100 on they are ours.
    CheckFailed = 100,
    NoAddress = 101, // every pool that may be used is exhausted
    Internal = 999,
};

struct CniError {
    Code code = Code::Internal;
    std::string message;
    std::string details;
};

// What a runtime shall do follows from the kind: unreachable datastore, lost compare-and-swaps and
// objects that are not there yet are tried again.
CniError to_cni_error(const Error& error);

// {"cniVersion": ..., "code": ..., "msg": ..., "details": ...}
std::string render_error(std::string_view version, const CniError& error);

} // namespace manx::cni
