// SPDX-License-Identifier: Apache-2.0
// Typed access to BPF maps. An object owns its file descriptor only: the kernel's map lives on as
// long as it is pinned or used by a program. Not thread-safe beyond what the kernel gives: single
// look-ups and updates are atomic, iteration is not a snapshot.
//
//     TRY_ASSIGN(auto endpoints, maps::open_pinned("/sys/fs/bpf/manx", maps::kEp4));
//     TRY(endpoints.update(key, value));
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "maps/tables.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace manx::maps {

// How an update treats what is there.
enum class Update : uint64_t {
    Any = 0,    // create or replace
    Create = 1, // AlreadyExists if it is there
    Replace = 2 // NotFound if it is not
};

// The untyped floor of Map and PerCpuMap. Errors name the map.
class RawMap {
public:
    RawMap() = default;
    RawMap(UniqueFd fd, std::string name);

    // ConfigReality if the pin's key or value size is not what the caller was built with.
    static Result<RawMap> open_pinned(const std::string& path, size_t key_size, size_t value_size);
    static Result<RawMap> from_fd(UniqueFd fd, std::string name, size_t key_size,
                                  size_t value_size);

    Result<bool> lookup(const void* key, void* value) const; // false: no such key
    Result<void> update(const void* key, const void* value, Update how);
    Result<bool> remove(const void* key); // false: was not there
    // In one system call per 4,096 entries where the kernel can (hash and array), else one by one.
    // Stops at the first failure; entries before it are written.
    Result<void> update_batch(const void* keys, const void* values, size_t count, size_t key_size,
                              size_t value_size);
    // Of an array with 32-bit keys: the entries [first, first + count), which it has, into values.
    // One system call where the kernel can.
    Result<void> read_array(uint32_t first, uint32_t count, size_t value_size, void* values) const;
    // Calls fn(key, value) until it returns false. Entries that change meanwhile may be missed or
    // seen twice, never torn.
    Result<void> for_each(size_t key_size, size_t value_size,
                          const std::function<bool(const void*, const void*)>& fn) const;

    [[nodiscard]] int fd() const { return fd_.get(); }

    [[nodiscard]] const std::string& name() const { return name_; }

    [[nodiscard]] uint32_t max_entries() const { return max_entries_; }

private:
    Result<void> walk(size_t key_size, size_t value_size,
                      const std::function<bool(const void*, const void*)>& fn) const;

    UniqueFd fd_;
    std::string name_;
    uint32_t max_entries_ = 0;
};

template <typename K, typename V>
class Map {
    static_assert(std::is_trivially_copyable_v<K> && std::is_trivially_copyable_v<V>);
    static_assert(std::has_unique_object_representations_v<K>, "hidden padding in a map key");

public:
    Map() = default;

    explicit Map(RawMap raw) : raw_(std::move(raw)) {}

    static Result<Map> open_pinned(const std::string& path) {
        TRY_ASSIGN(RawMap raw, RawMap::open_pinned(path, sizeof(K), sizeof(V)));
        return Map(std::move(raw));
    }

    // Takes the descriptor.
    static Result<Map> from_fd(UniqueFd fd, std::string name) {
        TRY_ASSIGN(RawMap raw,
                   RawMap::from_fd(std::move(fd), std::move(name), sizeof(K), sizeof(V)));
        return Map(std::move(raw));
    }

    Result<std::optional<V>> lookup(const K& key) const {
        V value{};
        TRY_ASSIGN(bool found, raw_.lookup(&key, &value));
        return found ? std::optional<V>(value) : std::nullopt;
    }

    Result<void> update(const K& key, const V& value, Update how = Update::Any) {
        return raw_.update(&key, &value, how);
    }

    Result<bool> remove(const K& key) { return raw_.remove(&key); }

    // keys and values have the same length.
    Result<void> update_batch(std::span<const K> keys, std::span<const V> values) {
        return raw_.update_batch(keys.data(), values.data(), keys.size(), sizeof(K), sizeof(V));
    }

    // fn(const K&, const V&); may return bool, false stops.
    template <typename Fn>
    Result<void> for_each(Fn&& fn) const {
        return raw_.for_each(sizeof(K), sizeof(V), [&fn](const void* key, const void* value) {
            K k;
            V v;
            __builtin_memcpy(&k, key, sizeof(K));
            __builtin_memcpy(&v, value, sizeof(V));
            if constexpr (std::is_same_v<std::invoke_result_t<Fn, const K&, const V&>, bool>) {
                return fn(k, v);
            } else {
                fn(k, v);
                return true;
            }
        });
    }

    [[nodiscard]] int fd() const { return raw_.fd(); }

    [[nodiscard]] const std::string& name() const { return raw_.name(); }

    [[nodiscard]] uint32_t max_entries() const { return raw_.max_entries(); }

private:
    RawMap raw_;
};

// Number of values that a per-CPU map gives per key.
Result<unsigned> possible_cpus();

// A per-CPU map of a struct whose members are all unsigned 64-bit counters; reads are sums.
template <typename K, typename V>
class PerCpuMap {
    static_assert(sizeof(V) % sizeof(uint64_t) == 0);

public:
    PerCpuMap() = default;

    static Result<PerCpuMap> from_fd(UniqueFd fd, std::string name) {
        PerCpuMap map;
        TRY_ASSIGN(map.raw_, RawMap::from_fd(std::move(fd), std::move(name), sizeof(K), sizeof(V)));
        TRY_ASSIGN(map.cpus_, possible_cpus());
        return map;
    }

    static Result<PerCpuMap> open_pinned(const std::string& path) {
        PerCpuMap map;
        TRY_ASSIGN(map.raw_, RawMap::open_pinned(path, sizeof(K), sizeof(V)));
        TRY_ASSIGN(map.cpus_, possible_cpus());
        return map;
    }

    // The sum over all CPUs.
    Result<std::optional<V>> lookup(const K& key) const {
        std::vector<V> values(cpus_);
        TRY_ASSIGN(bool found, raw_.lookup(&key, values.data()));
        return found ? std::optional<V>(sum(values.data())) : std::nullopt;
    }

    // Of an array: the sums for keys in ascending order. Those that are close to each other are
    // read together: a system call of its own costs what three entries in one cost (0.9 and 0.3
    // us).
    Result<std::vector<V>> lookup_many(std::span<const K> keys) const
        requires std::is_same_v<K, uint32_t>
    {
        constexpr uint32_t kClose = 3;
        constexpr uint32_t kMost = 1024; // entries at once
        std::vector<V> out;
        out.reserve(keys.size());
        std::vector<V> values;
        for (size_t i = 0; i < keys.size();) {
            size_t end = i + 1;
            while (end < keys.size() && keys[end] - keys[end - 1] <= kClose &&
                   keys[end] - keys[i] < kMost) {
                ++end;
            }
            const uint32_t first = keys[i];
            const uint32_t count = keys[end - 1] - first + 1;
            values.resize(size_t{count} * cpus_);
            TRY(raw_.read_array(first, count, sizeof(V) * cpus_, values.data()));
            for (; i < end; ++i) {
                out.push_back(sum(values.data() + size_t{keys[i] - first} * cpus_));
            }
        }
        return out;
    }

    // Sets all CPUs' values to zero.
    Result<void> reset(const K& key) {
        const std::vector<V> zeros(cpus_);
        return raw_.update(&key, zeros.data(), Update::Any);
    }

    Result<bool> remove(const K& key) { return raw_.remove(&key); }

    // fn(const K&, const V& sum).
    template <typename Fn>
    Result<void> for_each(Fn&& fn) const {
        return raw_.for_each(sizeof(K), sizeof(V) * cpus_,
                             [this, &fn](const void* key, const void* value) {
                                 K k;
                                 __builtin_memcpy(&k, key, sizeof(K));
                                 fn(k, sum(static_cast<const V*>(value)));
                                 return true;
                             });
    }

    [[nodiscard]] int fd() const { return raw_.fd(); }

    [[nodiscard]] uint32_t max_entries() const { return raw_.max_entries(); }

private:
    V sum(const V* values) const {
        constexpr size_t kWords = sizeof(V) / sizeof(uint64_t);
        uint64_t words[kWords] = {};
        for (unsigned cpu = 0; cpu < cpus_; cpu++) {
            uint64_t one[kWords];
            __builtin_memcpy(one, values + cpu, sizeof(V));
            for (size_t i = 0; i < kWords; i++) {
                words[i] += one[i];
            }
        }
        V total;
        __builtin_memcpy(&total, words, sizeof(V));
        return total;
    }

    RawMap raw_;
    unsigned cpus_ = 1;
};

// Opens <bpffs>/maps/<table's name>.
template <typename K, typename V>
Result<Map<K, V>> open_pinned(const std::string& bpffs, const Table<K, V>& table) {
    return Map<K, V>::open_pinned(bpffs + "/maps/" + table.name);
}

template <typename K, typename V>
Result<PerCpuMap<K, V>> open_pinned_per_cpu(const std::string& bpffs, const Table<K, V>& table) {
    return PerCpuMap<K, V>::open_pinned(bpffs + "/maps/" + table.name);
}

} // namespace manx::maps
