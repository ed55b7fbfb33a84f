// SPDX-License-Identifier: Apache-2.0
// Inputs of a small cluster for the tests of agent/bgp, and the check that every rendered
// configuration must pass: BIRD itself reads it.
#pragma once

#include "agent/bgp/render.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <unistd.h>

namespace manx::bgp::test {

inline IpAddress ip(std::string_view text) {
    return IpAddress::parse(text).value();
}

inline Cidr cidr(std::string_view text) {
    return Cidr::parse(text).value();
}

inline Node node(std::string name, std::string_view v4, std::string_view v6 = "") {
    Node n;
    n.name = std::move(name);
    if (!v4.empty()) {
        n.ipv4 = InterfaceAddress::parse(v4).value();
    }
    if (!v6.empty()) {
        n.ipv6 = InterfaceAddress::parse(v6).value();
    }
    return n;
}

inline LabelMatcher has(std::string key, std::string value) {
    return [key = std::move(key), value = std::move(value)](const Labels& labels) {
        auto it = labels.find(key);
        return it != labels.end() && it->second == value;
    };
}

// Two nodes, one pool and one block of each family, no mesh.
inline Inputs small_cluster() {
    Inputs in;
    in.node_name = "node1";
    in.nodes = {node("node1", "192.0.2.1/24", "2001:db8::1/64"),
                node("node2", "192.0.2.2/24", "2001:db8::2/64")};
    in.settings.node_mesh = false;
    in.pools = {{.name = "v4", .cidr = cidr("10.65.0.0/16")},
                {.name = "v6", .cidr = cidr("fd00:65::/64")}};
    in.blocks = {{cidr("10.65.0.64/26")}, {cidr("fd00:65::40/122")}};
    return in;
}

inline Peer peer_ip(std::string name, std::string_view address, uint32_t as) {
    Peer p;
    p.name = std::move(name);
    p.peer_ip = ip(address);
    p.as_number = as;
    return p;
}

// What `bird -p` says of it; empty if it is content.
inline std::string bird_verdict(const std::string& text) {
    std::string path = "/tmp/manx-bgp-test-" + std::to_string(getpid()) + ".conf";
    std::ofstream(path) << text;
    std::string out;
    FILE* pipe = popen(("/usr/sbin/bird -p -c " + path + " 2>&1").c_str(), "r");
    if (pipe == nullptr) {
        return "cannot run bird";
    }
    char buf[512];
    while (fgets(buf, sizeof buf, pipe) != nullptr) {
        out += buf;
    }
    int rc = pclose(pipe);
    unlink(path.c_str());
    return rc == 0 ? "" : out + " (status " + std::to_string(rc) + ")";
}

inline Rendered render(const Inputs& inputs) {
    auto rendered = render_bird_config(inputs);
    EXPECT_TRUE(rendered) << rendered.error().text();
    if (!rendered) {
        return {};
    }
    EXPECT_EQ(bird_verdict(rendered->text), "") << rendered->text;
    return *rendered;
}

// The block that begins with this line, up to its closing brace; empty if there is none.
inline std::string block(const std::string& text, const std::string& first) {
    auto at = text.find(first);
    if (at == std::string::npos) {
        return "";
    }
    auto end = text.find("\n}\n", at);
    return text.substr(at, end - at + 3);
}

inline std::string session(const std::string& text, const std::string& name) {
    return block(text, "protocol bgp " + name + " from");
}

inline std::vector<std::string> session_names(const std::string& text) {
    std::vector<std::string> names;
    const std::string start = "\nprotocol bgp ";
    for (auto at = text.find(start); at != std::string::npos; at = text.find(start, at + 1)) {
        auto from = at + start.size();
        names.push_back(text.substr(from, text.find(' ', from) - from));
    }
    return names;
}

} // namespace manx::bgp::test
