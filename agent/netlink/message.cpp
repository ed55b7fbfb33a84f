// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/message.h"

#include <netlink/attr.h>

#include <algorithm>
#include <cstdlib>

namespace manx::netlink {

namespace {

// Requests of ours are far below a page; running out of memory ends the process, as new does.
void must(bool ok) {
    if (!ok) {
        std::abort();
    }
}

constexpr size_t kMaxRequest = 2048;

} // namespace

Message::Message(uint16_t type, uint16_t flags, std::string what)
    : msg_(nlmsg_alloc_size(kMaxRequest)), what_(std::move(what)) {
    must(msg_ != nullptr);
    must(nlmsg_put(msg_.get(), 0, 0, type, 0, NLM_F_REQUEST | NLM_F_ACK | flags) != nullptr);
}

void Message::append_raw(const void* data, size_t size) {
    // nlmsg_append copies; its parameter lacks a const.
    must(nlmsg_append(msg_.get(), const_cast<void*>(data), size, NLMSG_ALIGNTO) == 0);
}

void Message::put(int attribute, const void* data, size_t size) {
    must(nla_put(msg_.get(), attribute, static_cast<int>(size), data) == 0);
}

void Message::put_string(int attribute, std::string_view value) {
    must(nla_put_string(msg_.get(), attribute, std::string(value).c_str()) == 0);
}

void Message::put_address(int attribute, const IpAddress& address) {
    put(attribute, address.bytes().data(), address.bytes().size());
}

void Message::put_mac(int attribute, const MacAddress& mac) {
    put(attribute, mac.bytes.data(), mac.bytes.size());
}

nlattr* Message::nest(int attribute) {
    nlattr* nested = nla_nest_start(msg_.get(), attribute);
    must(nested != nullptr);
    return nested;
}

void Message::end(nlattr* nested) {
    must(nla_nest_end(msg_.get(), nested) == 0);
}

Message& Message::tolerate(std::initializer_list<int> errnos) {
    tolerated_.insert(tolerated_.end(), errnos);
    return *this;
}

bool Message::tolerates(int err) const {
    return std::find(tolerated_.begin(), tolerated_.end(), err) != tolerated_.end();
}

} // namespace manx::netlink
