// SPDX-License-Identifier: Apache-2.0
// Reading of JSON objects member by member, for the codecs in agent/api. The first thing that is
// wrong is remembered with its path, later reads do nothing; the codec asks once, at its end.
// A member that is absent or null leaves the target as it is (its default).
#pragma once

#include "base/ip.h"
#include "base/result.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace manx::api {

// What a document's Fields share: its name for messages, and the first error.
struct Problems {
    std::string subject; // "IPPool default-pool"
    std::optional<Error> first;

    void add(const std::string& path, std::string_view what);
};

class Fields {
public:
    // object may be null: as if empty. Both must outlive the Fields.
    Fields(const nlohmann::json* object, std::string path, Problems& problems);

    [[nodiscard]] bool has(const char* name) const { return find(name) != nullptr; }

    [[nodiscard]] const nlohmann::json* find(const char* name) const;
    // The object under name; empty Fields where it is absent.
    [[nodiscard]] Fields at(const char* name) const;

    void get(const char* name, std::string& out) const;
    void get(const char* name, bool& out) const;
    void get(const char* name, double& out) const;
    void get(const char* name, IpAddress& out) const;
    void get(const char* name, Cidr& out) const;
    void get(const char* name, MacAddress& out) const;
    void get(const char* name, std::map<std::string, std::string>& out) const;

    template <typename T>
        requires(std::is_integral_v<T> && !std::is_same_v<T, bool>)
    void get(const char* name, T& out) const {
        using Limits = std::numeric_limits<T>;
        if constexpr (std::is_signed_v<T>) {
            out = static_cast<T>(integer(name, out, Limits::min(), Limits::max()));
        } else {
            out = static_cast<T>(natural(name, out, Limits::max()));
        }
    }

    template <typename T>
    void get(const char* name, std::optional<T>& out) const {
        if (has(name)) {
            T value{};
            get(name, value);
            out = std::move(value);
        }
    }

    // Lists of strings, of addresses, of CIDRs.
    void get(const char* name, std::vector<std::string>& out) const;
    void get(const char* name, std::vector<IpAddress>& out) const;
    void get(const char* name, std::vector<Cidr>& out) const;

    template <typename E>
    void get_enum(const char* name, E& out,
                  std::initializer_list<std::pair<std::string_view, E>> words) const {
        std::string word;
        get(name, word);
        if (!has(name) || word.empty()) {
            return;
        }
        std::string expected;
        for (const auto& [text, value] : words) {
            if (text == word) {
                out = value;
                return;
            }
            expected += (expected.empty() ? "" : ", ") + std::string(text);
        }
        wrong(name, "\"" + word + "\": expected one of " + expected);
    }

    // Items of a list of objects.
    template <typename Fn>
    void each(const char* name, Fn fn) const {
        const nlohmann::json* list = array(name);
        if (list == nullptr) {
            return;
        }
        size_t i = 0;
        for (const auto& item : *list) {
            fn(Fields(&item, join(name) + "[" + std::to_string(i++) + "]", *problems_));
        }
    }

    // A member without which the object makes no sense.
    void require(const char* name) const;
    void wrong(const char* name, std::string_view what) const;

    [[nodiscard]] const nlohmann::json& raw() const;

private:
    [[nodiscard]] std::string join(const char* name) const;
    [[nodiscard]] const nlohmann::json* array(const char* name) const;
    [[nodiscard]] int64_t integer(const char* name, int64_t otherwise, int64_t min,
                                  int64_t max) const;
    [[nodiscard]] uint64_t natural(const char* name, uint64_t otherwise, uint64_t max) const;

    template <typename T>
    void parsed(const char* name, T& out) const;
    template <typename T>
    void parsed_list(const char* name, std::vector<T>& out) const;

    const nlohmann::json* object_;
    std::string path_;
    Problems* problems_;
};

} // namespace manx::api
