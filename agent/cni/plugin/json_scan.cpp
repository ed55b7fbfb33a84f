// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/plugin/json_scan.h"

namespace manx::cni::plugin {

namespace {

constexpr std::string_view kWhite = " \t\r\n";

class Scanner {
public:
    explicit Scanner(std::string_view text) : text_(text) {}

    bool take(char c) {
        skip_white();
        if (at_ < text_.size() && text_[at_] == c) {
            ++at_;
            return true;
        }
        return false;
    }

    // The raw inside of a string, escapes untouched.
    std::optional<std::string_view> string() {
        if (!take('"')) {
            return std::nullopt;
        }
        const size_t start = at_;
        while (at_ < text_.size() && text_[at_] != '"') {
            at_ += text_[at_] == '\\' ? 2 : 1;
        }
        if (at_ >= text_.size()) {
            return std::nullopt;
        }
        return text_.substr(start, at_++ - start);
    }

    bool at_string() {
        skip_white();
        return at_ < text_.size() && text_[at_] == '"';
    }

    // Over one value of any kind.
    bool skip_value() {
        int depth = 0;
        do {
            skip_white();
            if (at_ >= text_.size()) {
                return false;
            }
            const char c = text_[at_];
            if (c == '"') {
                if (!string()) {
                    return false;
                }
                continue;
            }
            if (c == '{' || c == '[') {
                ++depth;
            } else if (c == '}' || c == ']') {
                --depth;
            } else if (depth == 0) {
                at_ = text_.find_first_of(",}] \t\r\n", at_);
                return at_ != std::string_view::npos;
            }
            ++at_;
        } while (depth > 0);
        return true;
    }

private:
    void skip_white() {
        const size_t next = text_.find_first_not_of(kWhite, at_);
        at_ = next == std::string_view::npos ? text_.size() : next;
    }

    std::string_view text_;
    size_t at_ = 0;
};

std::optional<std::string> unescaped(std::string_view raw) {
    std::string out;
    for (size_t i = 0; i < raw.size(); ++i) {
        if (raw[i] == '\\') {
            ++i;
            if (raw[i] != '"' && raw[i] != '\\' && raw[i] != '/') {
                return std::nullopt;
            }
        }
        out.push_back(raw[i]);
    }
    return out;
}

} // namespace

std::optional<std::string> top_level_string(std::string_view json, std::string_view key) {
    Scanner scanner(json);
    if (!scanner.take('{')) {
        return std::nullopt;
    }
    do {
        const auto name = scanner.string();
        if (!name || !scanner.take(':')) {
            return std::nullopt;
        }
        if (*name == key && scanner.at_string()) {
            const auto value = scanner.string();
            return value ? unescaped(*value) : std::nullopt;
        }
        if (!scanner.skip_value()) {
            return std::nullopt;
        }
    } while (scanner.take(','));
    return std::nullopt;
}

std::string quoted(std::string_view text) {
    constexpr std::string_view kHex = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out.push_back('\\');
            out.push_back(c);
        } else if (byte < 0x20) {
            out += "\\u00";
            out.push_back(kHex[byte >> 4]);
            out.push_back(kHex[byte & 15]);
        } else {
            out.push_back(c);
        }
    }
    out.push_back('"');
    return out;
}

} // namespace manx::cni::plugin
