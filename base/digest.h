// SPDX-License-Identifier: Apache-2.0
// Hashes that names are made of (none of them protects anything here), and base64.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace manx {

std::array<uint8_t, 20> sha1(std::string_view text);
std::array<uint8_t, 32> sha256(std::string_view text);
std::array<uint8_t, 32> sha3_256(std::string_view text);

// With padding, as Kubernetes writes it; nothing if it is not base64.
std::optional<std::string> base64_decode(std::string_view text);

} // namespace manx
