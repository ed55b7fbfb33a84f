// SPDX-License-Identifier: Apache-2.0
// A list of numbers, mostly short: up to two need no memory of their own. There are several of
// these per address and label of the cluster.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace manx::calc {

class IdList {
public:
    IdList() = default;
    IdList(const IdList&) = delete;
    IdList& operator=(const IdList&) = delete;

    IdList(IdList&& other) noexcept { *this = std::move(other); }

    IdList& operator=(IdList&& other) noexcept {
        std::copy(std::begin(other.few_), std::end(other.few_), std::begin(few_));
        many_ = std::move(other.many_);
        size_ = std::exchange(other.size_, 0);
        capacity_ = std::exchange(other.capacity_, kFew);
        return *this;
    }

    ~IdList() = default;

    [[nodiscard]] const uint32_t* begin() const { return data(); }

    [[nodiscard]] const uint32_t* end() const { return data() + size_; }

    [[nodiscard]] size_t size() const { return size_; }

    [[nodiscard]] bool empty() const { return size_ == 0; }

    void push_back(uint32_t value) {
        if (size_ == capacity_) {
            resize(capacity_ + capacity_ / 2 + 1);
        }
        data()[size_++] = value;
    }

    // One that equals value, wherever it is; the order of the others may change.
    bool drop(uint32_t value) {
        uint32_t* const last = data() + size_;
        uint32_t* const found = std::find(data(), last, value);
        if (found == last) {
            return false;
        }
        *found = *(last - 1);
        --size_;
        if (capacity_ > kFew && size_ <= capacity_ / 4) {
            resize(std::max<uint32_t>(size_, kFew));
        }
        return true;
    }

private:
    static constexpr uint32_t kFew = 2;

    [[nodiscard]] uint32_t* data() { return many_ ? many_.get() : few_; }

    [[nodiscard]] const uint32_t* data() const { return many_ ? many_.get() : few_; }

    void resize(uint32_t capacity) {
        if (capacity <= kFew) {
            std::copy(begin(), end(), std::begin(few_));
            many_.reset();
            capacity_ = kFew;
            return;
        }
        // NOLINTNEXTLINE(modernize-avoid-c-arrays)
        auto grown = std::make_unique<uint32_t[]>(capacity);
        std::copy(begin(), end(), grown.get());
        many_ = std::move(grown);
        capacity_ = capacity;
    }

    uint32_t few_[kFew] = {};
    std::unique_ptr<uint32_t[]> many_; // NOLINT(modernize-avoid-c-arrays)
    uint32_t size_ = 0;
    uint32_t capacity_ = kFew;
};

} // namespace manx::calc
