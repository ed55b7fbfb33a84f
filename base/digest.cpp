// SPDX-License-Identifier: Apache-2.0
#include "base/digest.h"

#include <nettle/base64.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <nettle/sha3.h>

namespace manx {

namespace {

const uint8_t* bytes_of(std::string_view text) {
    return reinterpret_cast<const uint8_t*>(text.data());
}

} // namespace

std::array<uint8_t, 20> sha1(std::string_view text) {
    sha1_ctx context{};
    sha1_init(&context);
    sha1_update(&context, text.size(), bytes_of(text));
    std::array<uint8_t, SHA1_DIGEST_SIZE> out{};
    sha1_digest(&context, out.size(), out.data());
    return out;
}

std::array<uint8_t, 32> sha256(std::string_view text) {
    sha256_ctx context{};
    sha256_init(&context);
    sha256_update(&context, text.size(), bytes_of(text));
    std::array<uint8_t, SHA256_DIGEST_SIZE> out{};
    sha256_digest(&context, out.size(), out.data());
    return out;
}

std::array<uint8_t, 32> sha3_256(std::string_view text) {
    sha3_256_ctx context{};
    sha3_256_init(&context);
    sha3_256_update(&context, text.size(), bytes_of(text));
    std::array<uint8_t, SHA3_256_DIGEST_SIZE> out{};
    sha3_256_digest(&context, out.size(), out.data());
    return out;
}

std::optional<std::string> base64_decode(std::string_view text) {
    if (text.size() % 4 != 0) {
        return std::nullopt;
    }
    base64_decode_ctx context{};
    base64_decode_init(&context);
    std::string out(BASE64_DECODE_LENGTH(text.size()), '\0');
    size_t size = out.size();
    if (base64_decode_update(&context, &size, reinterpret_cast<uint8_t*>(out.data()), text.size(),
                             text.data()) != 1 ||
        base64_decode_final(&context) != 1) {
        return std::nullopt;
    }
    out.resize(size);
    return out;
}

} // namespace manx
