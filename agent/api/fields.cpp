// SPDX-License-Identifier: Apache-2.0
#include "agent/api/fields.h"

#include <fmt/format.h>

namespace manx::api {

namespace {

std::string_view type_word(const nlohmann::json& value) {
    switch (value.type()) {
    case nlohmann::json::value_t::object:
        return "an object";
    case nlohmann::json::value_t::array:
        return "a list";
    case nlohmann::json::value_t::string:
        return "a string";
    case nlohmann::json::value_t::boolean:
        return "a boolean";
    case nlohmann::json::value_t::null:
        return "null";
    default:
        return "a number";
    }
}

std::string expected(std::string_view what, const nlohmann::json& found) {
    return fmt::format("expected {}, found {}", what, type_word(found));
}

} // namespace

void Problems::add(const std::string& path, std::string_view what) {
    if (!first) {
        first = Error{ErrorKind::ConfigInvalid, 0, fmt::format("{}: {}: {}", subject, path, what)};
    }
}

Fields::Fields(const nlohmann::json* object, std::string path, Problems& problems)
    : object_(object), path_(std::move(path)), problems_(&problems) {
    if (object_ != nullptr && object_->is_null()) {
        object_ = nullptr;
    }
    if (object_ != nullptr && !object_->is_object()) {
        problems.add(path_.empty() ? "the whole" : path_, expected("an object", *object_));
        object_ = nullptr;
    }
}

const nlohmann::json* Fields::find(const char* name) const {
    if (object_ == nullptr) {
        return nullptr;
    }
    auto at = object_->find(name);
    return at == object_->end() || at->is_null() ? nullptr : &*at;
}

std::string Fields::join(const char* name) const {
    return path_.empty() ? name : path_ + "." + name;
}

Fields Fields::at(const char* name) const {
    return {find(name), join(name), *problems_};
}

void Fields::wrong(const char* name, std::string_view what) const {
    problems_->add(join(name), what);
}

void Fields::require(const char* name) const {
    const auto* value = find(name);
    if (value == nullptr || (value->is_string() && value->get_ref<const std::string&>().empty())) {
        wrong(name, "is required");
    }
}

const nlohmann::json& Fields::raw() const {
    static const nlohmann::json kEmpty = nlohmann::json::object();
    return object_ == nullptr ? kEmpty : *object_;
}

void Fields::get(const char* name, std::string& out) const {
    if (const auto* value = find(name)) {
        if (const auto* text = value->get_ptr<const std::string*>()) {
            out = *text;
        } else {
            wrong(name, expected("a string", *value));
        }
    }
}

void Fields::get(const char* name, bool& out) const {
    if (const auto* value = find(name)) {
        if (value->is_boolean()) {
            out = value->get<bool>();
        } else {
            wrong(name, expected("true or false", *value));
        }
    }
}

void Fields::get(const char* name, double& out) const {
    if (const auto* value = find(name)) {
        if (value->is_number()) {
            out = value->get<double>();
        } else {
            wrong(name, expected("a number", *value));
        }
    }
}

int64_t Fields::integer(const char* name, int64_t otherwise, int64_t min, int64_t max) const {
    const auto* value = find(name);
    if (value == nullptr) {
        return otherwise;
    }
    if (value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{INT64_MAX}) {
        wrong(name, fmt::format("expected a whole number up to {}", max));
        return otherwise;
    }
    if (!value->is_number_integer() || value->get<int64_t>() < min || value->get<int64_t>() > max) {
        wrong(name, fmt::format("expected a whole number from {} to {}", min, max));
        return otherwise;
    }
    return value->get<int64_t>();
}

uint64_t Fields::natural(const char* name, uint64_t otherwise, uint64_t max) const {
    const auto* value = find(name);
    if (value == nullptr) {
        return otherwise;
    }
    bool negative =
        value->is_number_integer() && !value->is_number_unsigned() && value->get<int64_t>() < 0;
    if (!value->is_number_integer() || negative || value->get<uint64_t>() > max) {
        wrong(name, fmt::format("expected a whole number from 0 to {}", max));
        return otherwise;
    }
    return value->get<uint64_t>();
}

template <typename T>
void Fields::parsed(const char* name, T& out) const {
    std::string text;
    get(name, text);
    if (!has(name) || text.empty()) {
        return;
    }
    if (auto value = T::parse(text)) {
        out = *value;
    } else {
        wrong(name, value.error().message);
    }
}

void Fields::get(const char* name, IpAddress& out) const {
    parsed(name, out);
}

void Fields::get(const char* name, Cidr& out) const {
    parsed(name, out);
}

void Fields::get(const char* name, MacAddress& out) const {
    parsed(name, out);
}

const nlohmann::json* Fields::array(const char* name) const {
    const auto* value = find(name);
    if (value != nullptr && !value->is_array()) {
        wrong(name, expected("a list", *value));
        return nullptr;
    }
    return value;
}

void Fields::get(const char* name, std::map<std::string, std::string>& out) const {
    for (const auto& [key, value] : at(name).raw().items()) {
        if (const auto* text = value.get_ptr<const std::string*>()) {
            out[key] = *text;
        } else if (!value.is_null()) {
            wrong(name, fmt::format("\"{}\": {}", key, expected("a string", value)));
        }
    }
}

void Fields::get(const char* name, std::vector<std::string>& out) const {
    const auto* list = array(name);
    if (list == nullptr) {
        return;
    }
    out.clear();
    for (const auto& item : *list) {
        if (const auto* text = item.get_ptr<const std::string*>()) {
            out.push_back(*text);
        } else {
            wrong(name, expected("strings", item));
        }
    }
}

template <typename T>
void Fields::parsed_list(const char* name, std::vector<T>& out) const {
    std::vector<std::string> texts;
    get(name, texts);
    if (has(name)) {
        out.clear();
    }
    for (const auto& text : texts) {
        if (auto value = T::parse(text)) {
            out.push_back(*value);
        } else {
            wrong(name, value.error().message);
        }
    }
}

void Fields::get(const char* name, std::vector<IpAddress>& out) const {
    parsed_list(name, out);
}

void Fields::get(const char* name, std::vector<Cidr>& out) const {
    parsed_list(name, out);
}

} // namespace manx::api
