// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/yaml.h"

#include "agent/api/meta.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

namespace manx::ctl {

namespace {

using nlohmann::json;

// Bounds of what aliases may blow a document up to.
constexpr int kMaxDepth = 90;
constexpr size_t kMaxNodes = 2000000;

bool one_of(std::string_view word, std::initializer_list<std::string_view> words) {
    return std::ranges::find(words, word) != words.end();
}

template <typename T>
std::optional<T> number(std::string_view text, int base) {
    T value{};
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (text.empty() || ec != std::errc{} || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return value;
}

std::optional<json> integer(std::string_view text) {
    if (text.starts_with('+')) {
        text.remove_prefix(1);
    }
    if (text.starts_with("0x")) {
        auto value = number<uint64_t>(text.substr(2), 16);
        return value ? std::optional<json>(*value) : std::nullopt;
    }
    if (text.size() > 1 && text[0] == '0') { // octal: 0755, 0o755
        auto value = number<uint64_t>(text.substr(text[1] == 'o' ? 2 : 1), 8);
        return value ? std::optional<json>(*value) : std::nullopt;
    }
    if (auto value = number<uint64_t>(text, 10)) {
        return json(*value);
    }
    if (auto value = number<int64_t>(text, 10)) {
        return json(*value);
    }
    return std::nullopt;
}

std::optional<json> decimal(std::string_view text) {
    // Only digits, one point, an exponent: not "inf", not "1_000", not "1.2.3.4".
    bool plausible = !text.empty() && text.find_first_of("0123456789") != std::string_view::npos &&
                     text.find_first_not_of("+-.eE0123456789") == std::string_view::npos &&
                     text.find_first_of("eE") != 0;
    if (!plausible) {
        return std::nullopt;
    }
    if (text.starts_with('+')) {
        text.remove_prefix(1);
    }
    double value = 0;
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) {
        return std::nullopt;
    }
    return json(value);
}

// What a plain (unquoted, untagged) scalar means.
json plain_scalar(const std::string& text) {
    if (one_of(text, {"", "~", "null", "Null", "NULL"})) {
        return {};
    }
    if (one_of(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})) {
        return true;
    }
    if (one_of(text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})) {
        return false;
    }
    if (auto value = integer(text)) {
        return *value;
    }
    if (auto value = decimal(text)) {
        return *value;
    }
    return text;
}

class Converter {
public:
    Result<json> convert(const YAML::Node& node, int depth) {
        if (depth > kMaxDepth || ++nodes_ > kMaxNodes) {
            return at(node, depth > kMaxDepth ? "nested too deep" : "too large");
        }
        switch (node.Type()) {
        case YAML::NodeType::Scalar:
            return scalar(node);
        case YAML::NodeType::Sequence:
            return sequence(node, depth);
        case YAML::NodeType::Map:
            return map(node, depth);
        default:
            return json();
        }
    }

private:
    static Unexpected at(const YAML::Node& node, std::string_view what) {
        auto mark = node.Mark();
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("line {}, column {}: {}", mark.line + 1, mark.column + 1, what));
    }

    static Result<json> scalar(const YAML::Node& node) {
        const std::string& tag = node.Tag();
        if (tag == "?" || tag.empty()) {
            return plain_scalar(node.Scalar());
        }
        if (tag == "!" || tag == "tag:yaml.org,2002:str") {
            return json(node.Scalar());
        }
        json value = plain_scalar(node.Scalar());
        bool fits = (tag == "tag:yaml.org,2002:int" && value.is_number_integer()) ||
                    (tag == "tag:yaml.org,2002:float" && value.is_number()) ||
                    (tag == "tag:yaml.org,2002:bool" && value.is_boolean()) ||
                    (tag == "tag:yaml.org,2002:null" && value.is_null());
        return fits ? Result<json>(value) : at(node, "does not fit its tag " + tag);
    }

    Result<json> sequence(const YAML::Node& node, int depth) {
        json list = json::array();
        for (const auto& item : node) {
            TRY_ASSIGN(json value, convert(item, depth + 1));
            list.push_back(std::move(value));
        }
        return list;
    }

    Result<json> map(const YAML::Node& node, int depth) {
        json object = json::object();
        std::vector<json> merged;
        for (const auto& item : node) {
            if (!item.first.IsScalar()) {
                return at(item.first, "expected a plain key");
            }
            const std::string& key = item.first.Scalar();
            TRY_ASSIGN(json value, convert(item.second, depth + 1));
            if (key == "<<" && item.first.Tag() != "!") {
                if (value.is_array()) {
                    std::ranges::move(value, std::back_inserter(merged));
                } else {
                    merged.push_back(std::move(value));
                }
            } else if (!object.emplace(key, std::move(value)).second) {
                return at(item.first, fmt::format("key \"{}\" is given twice", key));
            }
        }
        for (const auto& more : merged) {
            if (!more.is_object()) {
                return at(node, "expected a map to merge");
            }
            for (const auto& [key, value] : more.items()) {
                object.emplace(key, value);
            }
        }
        return object;
    }

    size_t nodes_ = 0;
};

// Readers of YAML 1.1 take these for a date, or for a number to the base of 60.
bool looks_like_time(const std::string& text) {
    bool date = text.size() >= 10 && text[4] == '-' && text[7] == '-' &&
                text.find_first_not_of("0123456789") == 4;
    return date || (text.find_first_of(":_") != std::string::npos &&
                    text.find_first_not_of("0123456789:_.+-") == std::string::npos);
}

// Whether the text, written plain, is read again as this very string.
bool can_be_plain(const std::string& text) {
    if (looks_like_time(text)) {
        return false;
    }
    if (!plain_scalar(text).is_string() || text == "<<" || text == "=" || text.starts_with("---") ||
        text == "..." || one_of(text, {"y", "Y", "n", "N"})) {
        return false;
    }
    constexpr std::string_view kIndicators = "-?:,[]{}#&*!|>'\"%@` ";
    if (kIndicators.find(text.front()) != std::string_view::npos || text.back() == ' ' ||
        text.back() == ':') {
        return false;
    }
    if (std::ranges::any_of(
            text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
        return false;
    }
    return text.find(": ") == std::string::npos && text.find(" #") == std::string::npos;
}

std::string scalar_text(const json& value) {
    constexpr auto kReplace = json::error_handler_t::replace;
    if (value.is_string() && can_be_plain(value.get_ref<const std::string&>())) {
        return value.get<std::string>();
    }
    return value.dump(-1, ' ', false, kReplace); // JSON's scalars are YAML's
}

std::string key_text(const std::string& key) {
    return scalar_text(json(key));
}

void write(const json& value, size_t indent, std::string& out);

void write_member(const json& value, size_t indent, std::string& out) {
    if (value.is_structured() && !value.empty()) {
        out += "\n";
        // Lists are written at their key's own level, as Kubernetes' tools do.
        write(value, value.is_array() ? indent : indent + 2, out);
    } else {
        out += " " + scalar_text(value) + "\n";
    }
}

void write(const json& value, size_t indent, std::string& out) {
    std::string pad(indent, ' ');
    if (value.is_object() && !value.empty()) {
        for (const auto& [key, item] : value.items()) {
            out += pad + key_text(key) + ":";
            write_member(item, indent, out);
        }
    } else if (value.is_array() && !value.empty()) {
        for (const auto& item : value) {
            if (item.is_structured() && !item.empty()) {
                // The item's first line goes behind the dash.
                std::string body;
                write(item, indent + 2, body);
                out += pad + "- " + body.substr(indent + 2);
            } else {
                out += pad + "- " + scalar_text(item) + "\n";
            }
        }
    } else {
        out += pad + scalar_text(value) + "\n";
    }
}

} // namespace

Result<std::vector<json>> parse_yaml(std::string_view text) {
    std::vector<json> documents;
    size_t start = text.find_first_not_of(" \t\r\n");
    if (start != std::string_view::npos && (text[start] == '{' || text[start] == '[')) {
        if (auto parsed = api::parse_json(text)) {
            documents.push_back(std::move(*parsed));
            return documents;
        }
        // Not JSON after all: YAML's flow style.
    }
    try {
        for (const auto& node : YAML::LoadAll(std::string(text))) {
            TRY_ASSIGN(json document, Converter().convert(node, 0));
            if (!document.is_null()) {
                documents.push_back(std::move(document));
            }
        }
    } catch (const YAML::Exception& e) {
        return fail(ErrorKind::ConfigInvalid, fmt::format("line {}, column {}: {}", e.mark.line + 1,
                                                          e.mark.column + 1, e.msg));
    }
    return documents;
}

std::string to_yaml(const json& value) {
    std::string out;
    write(value, 0, out);
    return out;
}

} // namespace manx::ctl
