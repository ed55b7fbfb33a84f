// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <cerrno>
#include <system_error>

namespace manx {

std::string_view to_string(ErrorKind kind) {
    switch (kind) {
    case ErrorKind::Bug:
        return "bug";
    case ErrorKind::ConfigInvalid:
        return "invalid";
    case ErrorKind::ConfigReality:
        return "not-there";
    case ErrorKind::NotFound:
        return "not-found";
    case ErrorKind::AlreadyExists:
        return "already-exists";
    case ErrorKind::Conflict:
        return "conflict";
    case ErrorKind::Exhausted:
        return "exhausted";
    case ErrorKind::Unavailable:
        return "unavailable";
    case ErrorKind::System:
        return "system";
    case ErrorKind::Library:
        return "library";
    }
    return "unknown";
}

Error Error::within(std::string_view context) const {
    return Error{kind, err, std::string(context) + ": " + message};
}

std::string Error::text() const {
    if (err == 0) {
        return message;
    }
    return message + ": " + std::generic_category().message(err);
}

Unexpected fail_errno(std::string what) {
    return fail_errno(std::move(what), errno);
}

Unexpected fail_errno(std::string what, int err) {
    return fail(ErrorKind::System, std::move(what), err);
}

} // namespace manx
