// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/filters.h"

#include "base/digest.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

namespace manx::bgp {

std::string_view suffix(Family family) {
    return family == Family::V4 ? "v4" : "v6";
}

namespace {

constexpr size_t kMaxFunctionName = 45;
constexpr size_t kHashDigits = 8;

template <typename... Args>
void put(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

std::string literal(const Community& community) {
    return fmt::format("({})", fmt::join(community.parts, ", "));
}

std::string_view attribute(const Community& community) {
    return community.parts.size() == 3 ? "bgp_large_community" : "bgp_community";
}

bool safe_pattern(const std::string& text) {
    return std::all_of(text.begin(), text.end(),
                       [](char c) { return c > ' ' && c < 0x7f && c != '"' && c != '\\'; });
}

// A name within a comment of the configuration: it must not end the line.
std::string comment(std::string name) {
    std::replace_if(
        name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; }, '?');
    return name;
}

// The set of all prefixes inside one: "[ 10.0.0.0/8+ ]".
std::string inside(const Cidr& cidr) {
    return fmt::format("[ {}+ ]", cidr.text());
}

std::string prefix_set(const FilterRule& rule) {
    if (!rule.min_length && !rule.max_length) {
        return inside(*rule.cidr);
    }
    return fmt::format(
        "[ {}{{{},{}}} ]", rule.cidr->text(),
        rule.min_length.value_or(static_cast<uint8_t>(rule.cidr->length())),
        rule.max_length.value_or(static_cast<uint8_t>(address_bits(rule.cidr->family()))));
}

void add_prefix_condition(const FilterRule& rule, std::vector<std::string>& conditions) {
    if (!rule.cidr) {
        if (rule.min_length) {
            conditions.push_back(fmt::format("net.len >= {}", *rule.min_length));
        }
        if (rule.max_length) {
            conditions.push_back(fmt::format("net.len <= {}", *rule.max_length));
        }
        return;
    }
    switch (rule.match) {
    case MatchOperator::Equal:
        conditions.push_back(fmt::format("net = {}", rule.cidr->text()));
        break;
    case MatchOperator::NotEqual:
        conditions.push_back(fmt::format("net != {}", rule.cidr->text()));
        break;
    case MatchOperator::In:
        conditions.push_back("net ~ " + prefix_set(rule));
        break;
    case MatchOperator::NotIn:
        conditions.push_back("net !~ " + prefix_set(rule));
        break;
    }
}

std::vector<std::string> rule_conditions(const FilterRule& rule, bool is_export) {
    std::vector<std::string> conditions;
    add_prefix_condition(rule, conditions);
    if (rule.from_remote_peers) {
        conditions.emplace_back("source = RTS_BGP");
    }
    if (!rule.interface.empty()) {
        conditions.push_back(fmt::format("ifname ~ \"{}\"", rule.interface));
    }
    if (rule.internal_peer) {
        conditions.emplace_back(*rule.internal_peer ? "internal_peer" : "!internal_peer");
    }
    if (rule.community) {
        conditions.push_back(
            fmt::format("{} ~ {}", literal(*rule.community), attribute(*rule.community)));
    }
    if (!rule.as_path_prefix.empty()) {
        conditions.push_back(
            fmt::format("bgp_path ~ [= {} * =]", fmt::join(rule.as_path_prefix, " ")));
    }
    if (rule.priority) {
        // On the way in the metric is still what LOCAL_PREF says.
        conditions.push_back(is_export
                                 ? fmt::format("krt_metric = {}", *rule.priority)
                                 : fmt::format("bgp_local_pref = {}", kMetricTop - *rule.priority));
    }
    return conditions;
}

std::string rule_operations(const FilterRule& rule, bool is_export, uint32_t normal_priority) {
    std::string out;
    for (const FilterOperation& operation : rule.operations) {
        if (operation.add_community) {
            put(out, "    {}.add({});\n", attribute(*operation.add_community),
                literal(*operation.add_community));
        }
        // Each prepend puts its AS in front: the last of the list goes first.
        for (auto it = operation.prepend_as_path.rbegin(); it != operation.prepend_as_path.rend();
             ++it) {
            put(out, "    bgp_path.prepend({});\n", *it);
        }
        if (operation.set_priority) {
            if (is_export) {
                put(out, "    krt_metric = {};\n", *operation.set_priority);
            }
            put(out, "    bgp_local_pref = {};\n", kMetricTop - *operation.set_priority);
            if (!is_export && *operation.set_priority < normal_priority) {
                out += "    preference = 200;\n";
            }
        }
    }
    return out;
}

Result<void> check_rule(const Filter& filter, const FilterRule& rule, Family family) {
    auto bad = [&](std::string_view text) {
        return fail(ErrorKind::ConfigInvalid, fmt::format("BGPFilter {}: {}", filter.name, text));
    };
    if (rule.cidr && rule.cidr->family() != family) {
        return bad(fmt::format("cidr {}: expected an {} prefix in this list", rule.cidr->text(),
                               family == Family::V4 ? "IPv4" : "IPv6"));
    }
    unsigned bits = address_bits(family);
    if (rule.min_length.value_or(0) > bits || rule.max_length.value_or(0) > bits ||
        rule.min_length.value_or(0) > rule.max_length.value_or(static_cast<uint8_t>(bits))) {
        return bad(fmt::format("prefixLength: expected min <= max <= {}", bits));
    }
    if (!safe_pattern(rule.interface)) {
        return bad("interface: expected an interface name, with * for any text");
    }
    if (rule.priority.value_or(0) > kMetricTop) {
        return bad(fmt::format("priority: expected at most {}", kMetricTop));
    }
    for (const FilterOperation& operation : rule.operations) {
        if (operation.set_priority.value_or(0) > kMetricTop) {
            return bad(fmt::format("setPriority: expected at most {}", kMetricTop));
        }
    }
    return {};
}

} // namespace

std::string filter_function_name(const std::string& filter, Family family, bool is_export) {
    std::string tail = fmt::format("_{}Filter{}", is_export ? "export" : "import",
                                   family == Family::V4 ? "V4" : "V6");
    std::string name = "bgp_" + filter + tail;
    if (name.size() <= kMaxFunctionName) {
        return name;
    }
    const auto digest = sha256(filter);
    std::string hash;
    for (size_t i = 0; i < kHashDigits / 2; i++) {
        put(hash, "{:02x}", digest[i]);
    }
    size_t keep = kMaxFunctionName - tail.size() - hash.size() - std::string_view("bgp__").size();
    return fmt::format("bgp_{}_{}{}", filter.substr(0, keep), hash, tail);
}

Result<std::string> render_filter_function(const Filter& filter, Family family, bool is_export,
                                           uint32_t normal_priority) {
    bool good_name = std::all_of(filter.name.begin(), filter.name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    });
    if (filter.name.empty() || !good_name) {
        return fail(
            ErrorKind::ConfigInvalid,
            fmt::format("BGPFilter \"{}\": metadata.name: expected letters, digits, - and .",
                        filter.name));
    }
    std::string out;
    put(out, "function '{}'(bool internal_peer) {{\n",
        filter_function_name(filter.name, family, is_export));
    for (const FilterRule& rule : filter.rules(family, is_export)) {
        TRY(check_rule(filter, rule, family));
        auto conditions = rule_conditions(rule, is_export);
        std::string_view verdict = rule.accept ? "accept" : "reject";
        std::string operations =
            rule.accept ? rule_operations(rule, is_export, normal_priority) : "";
        std::string test =
            conditions.empty() ? "true" : fmt::format("({})", fmt::join(conditions, ") && ("));
        if (operations.empty()) {
            put(out, "  if {} then {};\n", test, verdict);
        } else {
            put(out, "  if {} then {{\n{}    {};\n  }}\n", test, operations, verdict);
        }
    }
    out += "}\n";
    return out;
}

std::string render_export_functions(const Inputs& inputs, const Node& self,
                                    const ServiceRoutes& services, Family family) {
    std::string out;
    uint32_t normal = inputs.settings.normal_priority(family);
    // LOCAL_PREF carries the metric; a route without one has the normal metric.
    put(out,
        "function manx_export_metric_{0}() {{\n"
        "  if source = RTS_BGP then {{\n"
        "    krt_metric = {1};\n"
        "    if defined(bgp_local_pref) && bgp_local_pref < {2} then\n"
        "      krt_metric = {2} - bgp_local_pref;\n"
        "  }} else {{\n"
        "    if !defined(krt_metric) then krt_metric = {1};\n"
        "    if krt_metric = 0 then krt_metric = {1};\n"
        "    bgp_local_pref = {2} - krt_metric;\n"
        "  }}\n"
        "}}\n",
        suffix(family), normal, kMetricTop);

    put(out, "function manx_export_{}(bool internal_peer) {{\n", suffix(family));
    for (const Pool& pool : inputs.pools) {
        if (pool.cidr.family() == family && pool.disable_bgp_export) {
            put(out, "  if net ~ {} then reject; # IPPool {}: disableBGPExport\n",
                inside(pool.cidr), comment(pool.name));
        }
    }
    out += "  if defined(ifname) && ifname ~ \"bpf*.cali\" then reject;\n"
           "  if internal_peer && defined(ifname) then {\n"
           "    if ifname ~ \"*.cali\" then reject;\n"
           "    if ifname ~ \"*.calico\" then reject;\n";
    auto program = inputs.settings.program_cluster_routes;
    bool bird_owns_ipip = program == ProgramClusterRoutes::Enabled ||
                          program == ProgramClusterRoutes::EnabledIpipOnly;
    if (family == Family::V4 && !bird_owns_ipip) {
        out += "    if ifname = \"tunl0\" then reject;\n";
    }
    out += "  }\n";
    for (const PrefixAdvertisement& advertisement : inputs.settings.prefix_advertisements) {
        if (advertisement.cidr.family() != family) {
            continue;
        }
        put(out, "  if net ~ {} then {{\n", inside(advertisement.cidr));
        for (const Community& community : advertisement.communities) {
            put(out, "    {}.add({});\n", attribute(community), literal(community));
        }
        out += "  }\n";
    }
    for (const Block& block : inputs.blocks) {
        if (block.cidr.family() != family || block.state != BlockState::Confirmed) {
            continue;
        }
        put(out, "  if net = {} then accept; # own block\n", block.cidr.text());
        if (!block.cidr.is_host()) {
            // The block stands for what is inside, except for a workload that is moving here.
            put(out, "  if net ~ {} && krt_metric >= {} then reject;\n", inside(block.cidr),
                normal);
        }
    }
    put(out, "  if source = RTS_STATIC && proto = \"services_{}\" then accept;\n", suffix(family));
    if (!self.route_reflector_cluster_id.empty()) {
        for (const Cidr& range : services.ranges) {
            if (range.family() == family) {
                put(out, "  if net ~ {} then accept; # services, reflected\n", inside(range));
            }
        }
    }
    for (const Pool& pool : inputs.pools) {
        if (pool.cidr.family() == family && !pool.disable_bgp_export) {
            put(out, "  if net ~ {} then accept; # IPPool {}\n", inside(pool.cidr),
                comment(pool.name));
        }
    }
    out += "  reject;\n}\n";
    return out;
}

namespace {

void put_pool_kernel_rule(std::string& out, const Inputs& inputs, const Node& self,
                          const Pool& pool) {
    auto program = inputs.settings.program_cluster_routes;
    std::string all = inside(pool.cidr);
    if (pool.vxlan != EncapMode::Never) {
        put(out, "  if net ~ {} then reject; # IPPool {}: VXLAN\n", all, comment(pool.name));
        return;
    }
    if (pool.ipip == EncapMode::Never) {
        if (program == ProgramClusterRoutes::Disabled ||
            program == ProgramClusterRoutes::EnabledIpipOnly) {
            put(out, "  if net ~ {} then reject; # IPPool {}: not BIRD's\n", all,
                comment(pool.name));
        }
        return;
    }
    if (program == ProgramClusterRoutes::Disabled ||
        program == ProgramClusterRoutes::EnabledNoEncapOnly) {
        put(out, "  if net ~ {} then reject; # IPPool {}: IPIP, not BIRD's\n", all,
            comment(pool.name));
        return;
    }
    std::string condition = fmt::format("net ~ {} && source = RTS_BGP", all);
    if (pool.ipip == EncapMode::CrossSubnet && self.ipv4) {
        condition += fmt::format(" && !(bgp_next_hop ~ {})", self.ipv4->subnet().text());
    }
    // Through the tunnel device to the node that announced the route.
    put(out,
        "  if {} then {{ # IPPool {}: IPIP\n"
        "    ifname = \"tunl0\";\n"
        "    onlink = true;\n"
        "    gw = bgp_next_hop;\n"
        "  }}\n",
        condition, comment(pool.name));
}

} // namespace

std::string render_kernel_filters(const Inputs& inputs, const Node& self,
                                  const ServiceRoutes& services, Family family) {
    std::string out;
    uint32_t normal = inputs.settings.normal_priority(family);
    // A workload that moves here (metric below the normal one) beats its old node's route.
    put(out,
        "filter manx_kernel_import_{} {{\n"
        "  if defined(krt_metric) && ifname ~ \"cali*\" then {{\n"
        "    if krt_metric > 0 && krt_metric < {} then preference = 150;\n"
        "  }}\n"
        "  accept;\n"
        "}}\n",
        suffix(family), normal);

    // One metric for all that is normal: BIRD replaces a route in the kernel within its metric
    // only, and a prefix may change hands (a block that is given up comes back from a peer).
    put(out,
        "filter manx_kernel_export_{0} {{\n"
        "  if source = RTS_DEVICE then reject;\n"
        "  krt_metric = {1};\n"
        "  if source = RTS_STATIC && proto = \"blocks_{0}\" then accept;\n"
        "  if source = RTS_STATIC && proto = \"services_{0}\" then reject;\n",
        suffix(family), normal);
    for (const Cidr& range : services.ranges) {
        if (range.family() == family) {
            put(out, "  if net ~ {} then reject; # services\n", inside(range));
        }
    }
    // A LOCAL_PREF near the top was made from a metric; any other (a router's 100) says nothing
    // of metrics.
    put(out,
        "  if source = RTS_BGP && defined(bgp_local_pref) then {{\n"
        "    if bgp_local_pref >= {0} && bgp_local_pref < {1} then\n"
        "      krt_metric = {1} - bgp_local_pref;\n"
        "  }}\n",
        kMetricTop - UINT16_MAX, kMetricTop);
    bool wireguard = family == Family::V4 ? self.wireguard4 : self.wireguard6;
    if (wireguard) {
        std::vector<IpAddress> nodes;
        for (const Node& node : inputs.nodes) {
            bool other = family == Family::V4 ? node.wireguard4 : node.wireguard6;
            if (other && node.name != self.name && node.address(family)) {
                nodes.push_back(node.address(family)->address);
            }
        }
        std::sort(nodes.begin(), nodes.end());
        for (const IpAddress& node : nodes) {
            put(out, "  if source = RTS_BGP && bgp_next_hop = {} then reject; # WireGuard\n",
                node.text());
        }
    }
    for (const Pool& pool : inputs.pools) {
        if (pool.cidr.family() == family) {
            put_pool_kernel_rule(out, inputs, self, pool);
        }
    }
    out += "  accept;\n}\n";
    return out;
}

} // namespace manx::bgp
