// SPDX-License-Identifier: Apache-2.0
// One rtnetlink request under construction: header, fixed part, attributes. Built by the makers in
// link.h, address.h, route.h and neighbor.h, sent by Socket.
#pragma once

#include "base/ip.h"
#include "base/unique_fd.h"

#include <netlink/msg.h>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace manx::netlink {

class Message {
public:
    // type: RTM_*; flags: NLM_F_* besides REQUEST and ACK, which are always set. what: names the
    // thing in errors ("route 10.0.0.1/32").
    Message(uint16_t type, uint16_t flags, std::string what);

    // The fixed part, and raw structs inside of a nest (veth's peer).
    template <typename T>
    void append(const T& fixed) {
        append_raw(&fixed, sizeof fixed);
    }

    void put(int attribute, const void* data, size_t size);

    void put_u32(int attribute, uint32_t value) { put(attribute, &value, sizeof value); }

    void put_u8(int attribute, uint8_t value) { put(attribute, &value, sizeof value); }

    void put_string(int attribute, std::string_view value); // with its NUL
    void put_address(int attribute, const IpAddress& address);
    void put_mac(int attribute, const MacAddress& mac);

    // nest() ... end() of what it returned.
    nlattr* nest(int attribute);
    void end(nlattr* nested);

    // errno values that are no error for this request (EEXIST of an add, ENOENT of a delete).
    Message& tolerate(std::initializer_list<int> errnos);

    [[nodiscard]] bool tolerates(int err) const;

    [[nodiscard]] nlmsghdr* header() const { return nlmsg_hdr(msg_.get()); }

    [[nodiscard]] const std::string& what() const { return what_; }

private:
    void append_raw(const void* data, size_t size);

    UniqueHandle<nl_msg, nlmsg_free> msg_;
    std::string what_;
    std::vector<int> tolerated_;
};

// Calls fn(const nlmsghdr*) for each message of one read.
template <typename Fn>
void for_each_message(std::span<const uint8_t> bytes, Fn&& fn) {
    auto left = static_cast<int>(bytes.size());
    // libnl's walker wants a mutable header and does not write.
    auto* header = const_cast<nlmsghdr*>(reinterpret_cast<const nlmsghdr*>(bytes.data()));
    for (; nlmsg_ok(header, left) != 0; header = nlmsg_next(header, &left)) {
        fn(static_cast<const nlmsghdr*>(header));
    }
}

} // namespace manx::netlink
