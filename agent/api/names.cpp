// SPDX-License-Identifier: Apache-2.0
#include "agent/api/names.h"

#include "base/digest.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

namespace manx::api {

namespace {

std::string hex(std::span<const uint8_t> bytes) {
    std::string out;
    for (uint8_t b : bytes) {
        out += fmt::format("{:02x}", b);
    }
    return out;
}

std::string base32(std::span<const uint8_t> bytes) {
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    std::string out;
    unsigned held = 0;
    unsigned bits = 0;
    for (uint8_t b : bytes) {
        held = held << 8 | b;
        bits += 8;
        while (bits >= 5) {
            bits -= 5;
            out += kAlphabet[(held >> bits) & 31];
        }
    }
    if (bits > 0) {
        out += kAlphabet[(held << (5 - bits)) & 31];
    }
    return out;
}

std::string doubled_dashes(std::string_view text) {
    std::string out;
    for (char c : text) {
        out += c;
        if (c == '-') {
            out += c;
        }
    }
    return out;
}

} // namespace

std::string workload_interface(std::string_view ns, std::string_view pod, std::string_view prefix) {
    std::string hash = hex(sha1(fmt::format("{}.{}", ns, pod)));
    return fmt::format("{}{}", prefix, hash.substr(0, 11));
}

std::string workload_endpoint_name(std::string_view node, std::string_view pod) {
    return fmt::format("{}-k8s-{}-eth0", doubled_dashes(node), doubled_dashes(pod));
}

std::string endpoint_status_file(std::string_view ns, std::string_view pod) {
    return fmt::format("k8s {}%2F{} eth0", ns, pod);
}

std::string block_name(const Cidr& block) {
    std::string name = block.text();
    std::ranges::replace_if(name, [](char c) { return c == '.' || c == ':' || c == '/'; }, '-');
    return name;
}

std::optional<Cidr> block_of_name(std::string_view name) {
    auto slash = name.rfind('-');
    if (slash == std::string_view::npos) {
        return std::nullopt;
    }
    for (char separator : {'.', ':'}) {
        std::string text(name);
        std::ranges::replace(text, '-', separator);
        text[slash] = '/';
        if (auto cidr = Cidr::parse(text); cidr && block_name(*cidr) == name) {
            return *cidr;
        }
    }
    return std::nullopt;
}

std::string affinity_name(std::string_view host, const Cidr& block) {
    constexpr size_t kMaxName = 252;
    constexpr size_t kHashLength = 11;
    std::string cidr = block_name(block);
    std::string name = fmt::format("{}-{}", host, cidr);
    if (name.size() <= kMaxName) {
        return name;
    }
    std::string hash = hex(sha256(fmt::format("{}+{}", host, cidr)));
    return fmt::format("{}-{}-{}", host.substr(0, kMaxName - cidr.size() - kHashLength - 2), cidr,
                       hash.substr(0, kHashLength));
}

std::string handle_name(std::string_view handle_id) {
    std::string name(handle_id);
    std::ranges::transform(name, name.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    });
    return name;
}

std::string hostname_hash(std::string_view host) {
    return base32(sha3_256(host));
}

std::map<std::string, std::string> affinity_labels(std::string_view host, std::string_view type,
                                                   Family family) {
    return {{std::string(kHostnameHashLabel), hostname_hash(host)},
            {std::string(kAffinityTypeLabel), std::string(type)},
            {std::string(kIpVersionLabel), family == Family::V4 ? "4" : "6"}};
}

} // namespace manx::api
