// SPDX-License-Identifier: Apache-2.0
// The one error channel of the project: Result<T>, an Error with a kind that decides what a caller
// does about it. An alias, so that std::expected can take its place.
#pragma once

#include <tl/expected.hpp>

#include <string>
#include <string_view>
#include <utility>

namespace manx {

enum class ErrorKind {
    Bug,           // cannot happen; a defect of ours
    ConfigInvalid, // the input is wrong: report it by name and field, keep the last good state
    ConfigReality, // the input is right but names what is not there (yet): retry
    NotFound,      // the object does not exist
    AlreadyExists, // create of an object, or claim of an address, that exists
    Conflict,      // compare-and-swap lost: read again, retry
    Exhausted,     // no address, no room in a table, limit reached
    Unavailable,   // the other side (datastore, agent, BIRD) does not answer: retry later
    System,        // a system call failed; err is its errno
    Library,       // a library call failed
};

std::string_view to_string(ErrorKind kind);

struct Error {
    ErrorKind kind = ErrorKind::Bug;
    int err = 0;         // positive errno, 0 where none applies
    std::string message; // one line, names the thing; callers prepend what they were doing

    // "doing what: message"; for callers to prepend context as the error travels up.
    [[nodiscard]] Error within(std::string_view context) const;
    // The line to print: message, and strerror(err) where err is set.
    [[nodiscard]] std::string text() const;
};

template <typename T = void>
using Result = tl::expected<T, Error>;

using Unexpected = tl::unexpected<Error>;

inline Unexpected fail(ErrorKind kind, std::string message, int err = 0) {
    return Unexpected(Error{kind, err, std::move(message)});
}

// A failed system call: takes errno as it is now, unless given.
Unexpected fail_errno(std::string what);
Unexpected fail_errno(std::string what, int err);

} // namespace manx

// TRY(expr): the value of a Result, or return its error to the caller.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define MANX_CONCAT_(a, b) a##b
#define MANX_CONCAT(a, b) MANX_CONCAT_(a, b)
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        if (auto try_result_ = (expr); !try_result_) {                                             \
            return ::tl::unexpected(std::move(try_result_).error());                               \
        }                                                                                          \
    } while (false)
#define TRY_ASSIGN(decl, expr) TRY_ASSIGN_(MANX_CONCAT(try_value_, __LINE__), decl, expr)
#define TRY_ASSIGN_(tmp, decl, expr)                                                               \
    auto tmp = (expr);                                                                             \
    if (!tmp) {                                                                                    \
        return ::tl::unexpected(std::move(tmp).error());                                           \
    }                                                                                              \
    decl = std::move(*tmp)
// NOLINTEND(bugprone-macro-parentheses)
