// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/packed_rules.h"

#include <cstring>
#include <type_traits>

namespace manx::calc {

namespace {

// Writer and reader go over the same members by visit(), so they cannot differ.
class Writer {
public:
    Writer(std::string& bytes, std::vector<api::Selector>& selectors)
        : bytes_(bytes), selectors_(selectors) {}

    template <typename T>
        requires std::is_integral_v<T> || std::is_enum_v<T>
    void number(const T& value) {
        const auto* first = reinterpret_cast<const char*>(&value);
        bytes_.append(first, sizeof(value));
    }

    // NOLINTNEXTLINE(readability-make-member-function-const): writes through the reference
    void text(const std::string& value) {
        count(value.size());
        bytes_ += value;
    }

    // Seven bits a byte, the last one without the eighth.
    size_t count(size_t value) {
        size_t rest = value;
        for (; rest > 0x7f; rest >>= 7) {
            bytes_ += static_cast<char>(rest | 0x80);
        }
        bytes_ += static_cast<char>(rest);
        return value;
    }

    void selector(const api::Selector& value) {
        const std::string words = value.text();
        const auto again = api::Selector::parse(words);
        const bool same = again && again->text() == words;
        number(same);
        if (same) {
            text(words);
        } else {
            count(selectors_.size());
            selectors_.push_back(value);
        }
    }

    void cidr(const Cidr& value) {
        number(value.family());
        number(static_cast<uint8_t>(value.length()));
        for (const uint8_t byte : value.address().bytes()) {
            number(byte);
        }
    }

private:
    std::string& bytes_;
    std::vector<api::Selector>& selectors_;
};

class Reader {
public:
    Reader(const std::string& bytes, const std::vector<api::Selector>& selectors)
        : at_(bytes.data()), selectors_(selectors) {}

    template <typename T>
        requires std::is_integral_v<T> || std::is_enum_v<T>
    void number(T& value) {
        std::memcpy(&value, at_, sizeof(value));
        at_ += sizeof(value);
    }

    void text(std::string& value) {
        const size_t size = count(0);
        value.assign(at_, size);
        at_ += size;
    }

    size_t count(size_t) {
        size_t value = 0;
        for (unsigned shift = 0;; shift += 7) {
            const auto byte = static_cast<uint8_t>(*at_++);
            value |= size_t{byte & 0x7fU} << shift;
            if (byte <= 0x7f) {
                return value;
            }
        }
    }

    void selector(api::Selector& value) {
        bool by_text = false;
        number(by_text);
        if (by_text) {
            std::string words;
            text(words);
            value = *api::Selector::parse(words);
        } else {
            value = selectors_[count(0)];
        }
    }

    void cidr(Cidr& value) {
        Family family{};
        uint8_t length = 0;
        uint8_t bytes[16] = {};
        number(family);
        number(length);
        const size_t size = address_bits(family) / 8;
        std::memcpy(bytes, at_, size);
        at_ += size;
        value = Cidr(IpAddress::from_bytes({bytes, size}), length);
    }

private:
    const char* at_;
    const std::vector<api::Selector>& selectors_;
};

template <typename Io, typename Value>
void visit(Io& io, Value& value);

template <typename Io, typename Optional>
void visit_optional(Io& io, Optional& value) {
    bool given = value.has_value();
    io.number(given);
    if (given) {
        if constexpr (!std::is_const_v<Optional>) {
            value.emplace();
        }
        visit(io, *value);
    }
}

template <typename Io, typename Vector>
void visit_list(Io& io, Vector& values) {
    const size_t count = io.count(values.size());
    if constexpr (!std::is_const_v<Vector>) {
        values.resize(count);
    }
    for (auto& value : values) {
        visit(io, value);
    }
}

template <typename Io, typename Value>
void visit(Io& io, Value& value) {
    using T = std::remove_const_t<Value>;
    if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
        io.number(value);
    } else if constexpr (std::is_same_v<T, std::string>) {
        io.text(value);
    } else if constexpr (std::is_same_v<T, api::Selector>) {
        io.selector(value);
    } else if constexpr (std::is_same_v<T, Cidr>) {
        io.cidr(value);
    } else if constexpr (std::is_same_v<T, api::PortRange>) {
        visit(io, value.first);
        visit(io, value.last);
    } else if constexpr (std::is_same_v<T, api::PortMatch>) {
        visit_list(io, value.ranges);
        visit_list(io, value.names);
    } else if constexpr (std::is_same_v<T, api::IcmpMatch>) {
        visit(io, value.type);
        visit_optional(io, value.code);
    } else if constexpr (std::is_same_v<T, api::EntityMatch>) {
        visit_optional(io, value.selector);
        visit_optional(io, value.not_selector);
        visit_list(io, value.nets);
        visit_list(io, value.not_nets);
        visit(io, value.ports);
        visit(io, value.not_ports);
        visit(io, value.service_ns);
        visit(io, value.service);
    } else {
        static_assert(std::is_same_v<T, api::PolicyRule>);
        visit(io, value.action);
        visit_optional(io, value.ip_version);
        visit_optional(io, value.protocol);
        visit_optional(io, value.not_protocol);
        visit_optional(io, value.icmp);
        visit_optional(io, value.not_icmp);
        visit(io, value.source);
        visit(io, value.destination);
        visit(io, value.name);
        visit(io, value.index);
    }
}

} // namespace

PackedRules::PackedRules(const api::Policy& policy) {
    Writer writer(bytes_, selectors_);
    visit_list(writer, policy.ingress_rules);
    visit_list(writer, policy.egress_rules);
    bytes_.shrink_to_fit();
}

PackedRules::Rules PackedRules::unpack() const {
    Rules out;
    if (!bytes_.empty()) {
        Reader reader(bytes_, selectors_);
        visit_list(reader, out.ingress);
        visit_list(reader, out.egress);
    }
    return out;
}

} // namespace manx::calc
