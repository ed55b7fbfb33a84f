// SPDX-License-Identifier: Apache-2.0
// What travels between the plugin binary and the agent over the agent's unix socket. One request
// per connection, then one reply. Numbers are little endian.
//
//   request  u32 magic, u32 size of the body, body
//   body     the CNI_* environment as "NAME=value", each closed by a NUL; an empty string; then
//            standard input as it is
//   beside   the first byte may carry one descriptor (SCM_RIGHTS): the pod's network namespace,
//            opened by the plugin, so that the agent need not share its mounts or processes
//   reply    u32 exit status, u32 size of the text, text for standard output
//
// This header is part of a binary that starts once per pod: it stays small.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace manx::cni {

inline constexpr const char* kDefaultSocket = "/run/manx/cni.sock";
inline constexpr uint32_t kRequestMagic = 0x31584e4d; // "MNX1"
inline constexpr size_t kHeaderSize = 8;
inline constexpr size_t kMaxBody = size_t{4} * 1024 * 1024;

struct WireRequest {
    std::vector<std::pair<std::string, std::string>> environment; // CNI_*
    std::string input;                                            // standard input
};

struct WireHeader {
    uint32_t first = 0;  // request: magic; reply: exit status
    uint32_t length = 0; // of what follows
};

std::string encode_header(const WireHeader& header);
WireHeader decode_header(std::string_view eight_bytes);
std::string encode_body(const WireRequest& request);
// Nothing when the body is not what encode_body writes.
std::optional<WireRequest> decode_body(std::string_view body);

// Versions of the CNI specification that plugin and agent speak, oldest first.
inline constexpr std::string_view kCniVersions[] = {"0.1.0", "0.2.0", "0.3.0", "0.3.1",
                                                    "0.4.0", "1.0.0", "1.1.0"};
inline constexpr std::string_view kNewestCniVersion = "1.1.0";

} // namespace manx::cni
