// SPDX-License-Identifier: Apache-2.0
// Move-only owners of file descriptors and of C handles.
#pragma once

#include <memory>
#include <utility>

namespace manx {

class UniqueFd {
public:
    UniqueFd() = default;

    explicit UniqueFd(int fd) : fd_(fd) {}

    UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

    UniqueFd& operator=(UniqueFd&& other) noexcept {
        reset(std::exchange(other.fd_, -1));
        return *this;
    }

    UniqueFd(const UniqueFd&) = delete;
    UniqueFd& operator=(const UniqueFd&) = delete;

    ~UniqueFd() { reset(); }

    [[nodiscard]] int get() const { return fd_; }

    [[nodiscard]] int release() { return std::exchange(fd_, -1); }

    explicit operator bool() const { return fd_ >= 0; }

    void reset(int fd = -1);

private:
    int fd_ = -1;
};

// UniqueHandle<nl_sock, nl_socket_free> and the like.
template <auto Free>
struct HandleDeleter {
    template <typename T>
    void operator()(T* handle) const {
        Free(handle);
    }
};

template <typename T, auto Free>
using UniqueHandle = std::unique_ptr<T, HandleDeleter<Free>>;

} // namespace manx
