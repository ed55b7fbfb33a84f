// SPDX-License-Identifier: Apache-2.0
#include "maps/map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

namespace manx::maps {

namespace {

constexpr size_t kBatch = 4096;

Unexpected fail_map(const std::string& name, const char* what, int err) {
    ErrorKind kind = ErrorKind::System;
    if (err == ENOENT) {
        kind = ErrorKind::NotFound;
    } else if (err == EEXIST) {
        kind = ErrorKind::AlreadyExists;
    } else if (err == E2BIG || err == ENOSPC) {
        kind = ErrorKind::Exhausted;
    }
    return fail(kind, std::string(what) + " map " + name, err);
}

} // namespace

RawMap::RawMap(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {
}

Result<RawMap> RawMap::open_pinned(const std::string& path, size_t key_size, size_t value_size) {
    UniqueFd fd(bpf_obj_get(path.c_str()));
    if (!fd) {
        const int err = errno;
        return fail(err == ENOENT ? ErrorKind::NotFound : ErrorKind::System,
                    "open pinned map " + path, err);
    }
    return from_fd(std::move(fd), std::filesystem::path(path).filename().string(), key_size,
                   value_size);
}

Result<RawMap> RawMap::from_fd(UniqueFd fd, std::string name, size_t key_size, size_t value_size) {
    bpf_map_info info{};
    uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd.get(), &info, &size) < 0) {
        return fail_errno("read the layout of map " + name);
    }
    // A per-CPU map says the size of one CPU's value.
    if (info.key_size != key_size || info.value_size != value_size) {
        return fail(ErrorKind::ConfigReality,
                    "map " + name + " has keys of " + std::to_string(info.key_size) +
                        " and values of " + std::to_string(info.value_size) +
                        " bytes, this program expects " + std::to_string(key_size) + " and " +
                        std::to_string(value_size) + ": it was pinned by another version");
    }
    RawMap map(std::move(fd), std::move(name));
    map.max_entries_ = info.max_entries;
    return map;
}

Result<bool> RawMap::lookup(const void* key, void* value) const {
    if (bpf_map_lookup_elem(fd_.get(), key, value) == 0) {
        return true;
    }
    if (errno == ENOENT) {
        return false;
    }
    return fail_map(name_, "look up in", errno);
}

Result<void> RawMap::update(const void* key, const void* value, Update how) {
    if (bpf_map_update_elem(fd_.get(), key, value, static_cast<uint64_t>(how)) < 0) {
        return fail_map(name_, "write to", errno);
    }
    return {};
}

Result<bool> RawMap::remove(const void* key) {
    if (bpf_map_delete_elem(fd_.get(), key) == 0) {
        return true;
    }
    if (errno == ENOENT) {
        return false;
    }
    return fail_map(name_, "delete from", errno);
}

Result<void> RawMap::update_batch(const void* keys, const void* values, size_t count,
                                  size_t key_size, size_t value_size) {
    const auto* key = static_cast<const std::byte*>(keys);
    const auto* value = static_cast<const std::byte*>(values);
    size_t done = 0;
    while (done < count) {
        auto chunk = static_cast<uint32_t>(std::min(kBatch, count - done));
        const uint32_t wanted = chunk;
        const int rc = bpf_map_update_batch(fd_.get(), key + done * key_size,
                                            value + done * value_size, &chunk, nullptr);
        if (rc < 0 && (errno == ENOTSUP || errno == EINVAL || errno == 524 /* ENOTSUPP */)) {
            for (; done < count; done++) {
                TRY(update(key + done * key_size, value + done * value_size, Update::Any));
            }
            return {};
        }
        if (rc < 0) {
            return fail_map(name_, "write to", errno);
        }
        done += wanted;
    }
    return {};
}

Result<void> RawMap::read_array(uint32_t first, uint32_t count, size_t value_size,
                                void* values) const {
    auto* value = static_cast<std::byte*>(values);
    if (count > 1) {
        std::vector<uint32_t> keys(count);
        uint32_t before = first - 1; // where the kernel has got to
        uint32_t next = 0;
        uint32_t read = count;
        const int rc = bpf_map_lookup_batch(fd_.get(), first == 0 ? nullptr : &before, &next,
                                            keys.data(), value, &read, nullptr);
        if (rc == 0 && read == count) {
            return {};
        }
        if (rc < 0 && errno != ENOTSUP && errno != EINVAL && errno != 524 /* ENOTSUPP */) {
            return fail_map(name_, "read", errno);
        }
    }
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t key = first + i;
        TRY_ASSIGN(const bool found, lookup(&key, value + i * value_size));
        if (!found) {
            return fail_map(name_, "read", ENOENT);
        }
    }
    return {};
}

// One call of the kernel for many entries: a walk by key costs two calls for each, which at
// 20,000 entries is a third of an agent's start.
Result<void> RawMap::for_each(size_t key_size, size_t value_size,
                              const std::function<bool(const void*, const void*)>& fn) const {
    size_t room = std::min<size_t>(kBatch, max_entries_);
    std::vector<std::byte> keys;
    std::vector<std::byte> values;
    // Where to go on, as the kernel left it: a bucket's number or a key.
    std::vector<std::byte> from(std::max(key_size, sizeof(uint64_t)));
    std::vector<std::byte> to(from.size());
    bool first = true;
    for (;;) {
        keys.resize(room * key_size);
        values.resize(room * value_size);
        auto count = static_cast<uint32_t>(room);
        const int rc = bpf_map_lookup_batch(fd_.get(), first ? nullptr : from.data(), to.data(),
                                            keys.data(), values.data(), &count, nullptr);
        const int err = rc < 0 ? errno : 0;
        if (first && (err == ENOTSUP || err == EINVAL || err == 524 /* ENOTSUPP */)) {
            return walk(key_size, value_size, fn);
        }
        if (err == ENOSPC) { // a bucket holds more than there is room for
            room *= 2;
            continue;
        }
        if (err != 0 && err != ENOENT) {
            return fail_map(name_, "read", err);
        }
        for (size_t i = 0; i < count; i++) {
            if (!fn(keys.data() + i * key_size, values.data() + i * value_size)) {
                return {};
            }
        }
        if (err == ENOENT) { // that was the end
            return {};
        }
        from.swap(to);
        first = false;
    }
}

// For kinds of maps that the kernel has no batches for.
Result<void> RawMap::walk(size_t key_size, size_t value_size,
                          const std::function<bool(const void*, const void*)>& fn) const {
    std::vector<std::byte> key(key_size);
    std::vector<std::byte> next(key_size);
    std::vector<std::byte> value(value_size);
    const void* at = nullptr;
    // A key that vanished restarts the kernel's walk from the beginning: bound the walk, so that
    // a busy table cannot hold us forever.
    size_t left = size_t{2} * max_entries_ + 16;
    while (left-- > 0) {
        if (bpf_map_get_next_key(fd_.get(), at, next.data()) < 0) {
            if (errno == ENOENT) {
                return {};
            }
            return fail_map(name_, "walk", errno);
        }
        TRY_ASSIGN(const bool found, lookup(next.data(), value.data()));
        if (found && !fn(next.data(), value.data())) {
            return {};
        }
        key.swap(next);
        at = key.data();
    }
    return {};
}

Result<unsigned> possible_cpus() {
    const int cpus = libbpf_num_possible_cpus();
    if (cpus <= 0) {
        return fail(ErrorKind::System, "count the possible CPUs", -cpus);
    }
    return static_cast<unsigned>(cpus);
}

} // namespace manx::maps
