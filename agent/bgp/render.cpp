// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/render.h"

#include "agent/bgp/filters.h"
#include "agent/bgp/services.h"
#include "agent/bgp/sessions.h"
#include "base/digest.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <set>

namespace manx::bgp {

namespace {

// Changes of interfaces and of the kernel's routes come by netlink; a scan only mends what is left
// over: messages that a full socket buffer lost, and the old route of a workload whose metric
// changed (BIRD replaces within one metric).
constexpr int kScanSeconds = 60;
constexpr int kNetlinkBufferBytes = 4 * 1024 * 1024;

template <typename... Args>
void put(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

std::string_view family_name(Family family) {
    return family == Family::V4 ? "ipv4" : "ipv6";
}

// BIRD's strings have no escapes.
bool quotable(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) {
        return c != '"' && static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
    });
}

class Renderer {
public:
    explicit Renderer(const Inputs& inputs) : inputs_(inputs) {}

    Result<Rendered> render() {
        self_ = inputs_.own_node();
        if (self_ == nullptr) {
            return fail(ErrorKind::ConfigReality,
                        fmt::format("Node {}: not in the datastore", inputs_.node_name));
        }
        services_ = compute_service_routes(inputs_);
        auto computed = compute_sessions(inputs_);
        problems_ = std::move(computed.problems);
        sessions_ = std::move(computed.sessions);
        TRY(put_globals());
        put_devices();
        for (Family family : kFamilies) {
            put_routes(family);
        }
        put_filters();
        put(out_,
            "\ntemplate bgp manx_session {{\n"
            "  connect delay time {};\n"
            "  connect retry time {};\n"
            "  error wait time {}, {};\n"
            "  graceful restart on;\n"
            "}}\n",
            inputs_.timers.connect_delay, inputs_.timers.connect_retry,
            inputs_.timers.error_wait_min, inputs_.timers.error_wait_max);
        for (const Session& session : sessions_) {
            put_session(session);
        }
        return Rendered{std::move(out_), std::move(problems_)};
    }

private:
    [[nodiscard]] IpAddress router_id() const {
        if (inputs_.router_id_mode == RouterIdMode::Literal) {
            return inputs_.router_id;
        }
        if (inputs_.router_id_mode == RouterIdMode::NodeIp && self_->ipv4) {
            return self_->ipv4->address;
        }
        auto digest = sha256(self_->name);
        if (digest[0] > 223) {
            digest[0] -= 32; // no multicast or reserved address
        }
        return IpAddress::from_bytes({digest.data(), 4});
    }

    Result<void> put_globals() {
        out_ += "# Written by manx-agent from the objects of the datastore; changes are lost.\n\n";
        if (!quotable(inputs_.log_file)) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("BIRD log file \"{}\": expected no quotes", inputs_.log_file));
        }
        std::string_view classes = "all";
        std::string_view debug = "all";
        switch (inputs_.settings.log_severity) {
        case LogSeverity::Debug:
            break;
        case LogSeverity::Info:
            classes = "{ trace, info, remote, warning, error, auth, fatal, bug }";
            debug = "{ states }";
            break;
        case LogSeverity::Warning:
            classes = "{ warning, error, auth, fatal, bug }";
            debug = "off";
            break;
        case LogSeverity::Error:
            classes = "{ error, auth, fatal, bug }";
            debug = "off";
            break;
        }
        if (inputs_.log_file.empty()) {
            put(out_, "log stderr {};\n", classes);
        } else {
            put(out_, "log \"{0}\" 1048576 \"{0}.1\" {1};\n", inputs_.log_file, classes);
        }
        out_ += "timeformat protocol iso short;\n";
        put(out_, "debug protocols {};\n", debug);
        put(out_, "router id {};\n", router_id().text());
        put(out_, "graceful restart wait {};\n", inputs_.graceful_restart_wait);
        return {};
    }

    void put_devices() {
        put(out_, "\nprotocol device {{\n  scan time {};\n}}\n", kScanSeconds);
        out_ += "\nprotocol direct {\n  ipv4;\n  ipv6;\n  interface -\"cali*\", -\"kube-ipvs*\"";
        auto ignored = inputs_.settings.ignored_interfaces;
        std::sort(ignored.begin(), ignored.end());
        for (const std::string& name : ignored) {
            if (!quotable(name) || name.empty()) {
                problems_.push_back(fmt::format("BGPConfiguration default: ignoredInterfaces: "
                                                "\"{}\": expected an interface name, with * for "
                                                "any text",
                                                name));
                continue;
            }
            put(out_, ", -\"{}\"", name);
        }
        out_ += ", \"*\";\n}\n";
    }

    // The node's own blocks, the services, the ways to peers, and the kernel's table.
    void put_routes(Family family) {
        auto name = family_name(family);
        auto suffix_name = suffix(family);
        put(out_, "\nprotocol static blocks_{} {{\n  {};\n", suffix_name, name);
        for (const Block& block : inputs_.blocks) {
            if (block.cidr.family() == family && !block.cidr.is_host() &&
                block.state != BlockState::Pending) {
                put(out_, "  route {} blackhole;\n", block.cidr.text());
            }
        }
        put(out_, "}}\n\nprotocol static services_{} {{\n  {};\n", suffix_name, name);
        for (const Cidr& route : services_.announced) {
            if (route.family() == family) {
                put(out_, "  route {} blackhole;\n", route.text());
            }
        }
        put(out_, "}}\n\nprotocol static reachable_{} {{\n  {};\n", suffix_name, name);
        std::set<IpAddress> done;
        for (const Session& session : sessions_) {
            if (session.reachable_by && session.peer.family() == family &&
                done.insert(session.peer).second) {
                put(out_, "  route {} via {};\n", Cidr::host(session.peer).text(),
                    session.reachable_by->text());
            }
        }
        out_ += "}\n\n";
        out_ += render_kernel_filters(inputs_, *self_, services_, family);
        // metric 0: each route has its own, from krt_metric.
        put(out_,
            "\nprotocol kernel kernel_{0} {{\n"
            "  learn;\n"
            "  persist;\n"
            "  scan time {1};\n"
            "  netlink rx buffer {2};\n"
            "  metric 0;\n"
            "  merge paths on;\n"
            "  graceful restart on;\n"
            "  {3} {{\n"
            "    import filter manx_kernel_import_{0};\n"
            "    export filter manx_kernel_export_{0};\n"
            "  }};\n"
            "}}\n\n",
            suffix_name, kScanSeconds, kNetlinkBufferBytes, name);
        out_ += render_export_functions(inputs_, *self_, services_, family);
    }

    void put_filters() {
        std::vector<const Filter*> filters;
        for (const Filter& filter : inputs_.filters) {
            filters.push_back(&filter);
        }
        std::sort(filters.begin(), filters.end(),
                  [](const Filter* a, const Filter* b) { return a->name < b->name; });
        for (const Filter* filter : filters) {
            if (!filter->wrong.empty()) {
                problems_.push_back(fmt::format("BGPFilter {}: {}", filter->name, filter->wrong));
                broken_filters_.insert(filter->name);
                continue;
            }
            for (Family family : kFamilies) {
                for (bool is_export : {false, true}) {
                    if (filter->rules(family, is_export).empty()) {
                        continue;
                    }
                    auto text = render_filter_function(*filter, family, is_export,
                                                       inputs_.settings.normal_priority(family));
                    if (!text) {
                        problems_.push_back(text.error().text());
                        broken_filters_.insert(filter->name);
                        continue;
                    }
                    out_ += "\n" + *text;
                    functions_.insert(filter_function_name(filter->name, family, is_export));
                }
            }
        }
    }

    void put_session(const Session& session) {
        for (const std::string& filter : session.filters) {
            // Without its filter a session would let through what it was meant to stop.
            if (broken_filters_.contains(filter)) {
                problems_.push_back(fmt::format("{}: no session with {}: its BGPFilter {} is wrong",
                                                session.description, session.peer.text(), filter));
                return;
            }
        }
        if (!quotable(session.password)) {
            problems_.push_back(fmt::format("{}: no session with {}: its password holds a quote or "
                                            "a control character",
                                            session.description, session.peer.text()));
            return;
        }
        put(out_, "\nprotocol bgp {} from manx_session {{\n", session.name);
        if (quotable(session.description)) {
            put(out_, "  description \"{}\";\n", session.description);
        }
        put_ends(session);
        if (session.ttl_security) {
            put(out_, "  multihop {};\n  ttl security on;\n",
                std::max<unsigned>(*session.ttl_security, 1));
        } else {
            out_ += "  multihop;\n  ttl security off;\n";
        }
        if (!session.password.empty()) {
            put(out_, "  password \"{}\";\n", session.password);
        }
        if (session.passive) {
            out_ += "  passive on;\n";
        }
        if (session.restart_time) {
            put(out_, "  graceful restart time {};\n", session.restart_time->count());
        }
        if (session.keepalive_time) {
            put(out_, "  keepalive time {};\n", session.keepalive_time->count());
        }
        if (session.allowed_local_as && *session.allowed_local_as > 0) {
            put(out_, "  allow local as {};\n", *session.allowed_local_as);
        }
        if (!session.cluster_id.empty()) {
            put(out_, "  rr client;\n  rr cluster id {};\n", session.cluster_id);
        }
        put_channel(session);
        out_ += "}\n";
    }

    void put_ends(const Session& session) {
        out_ += "  local";
        if (session.source) {
            put(out_, " {}", session.source->text());
        }
        if (session.listen_port != 179) {
            put(out_, " port {}", session.listen_port);
        }
        put(out_, " as {};\n", session.local_as);
        if (session.strict_bind) {
            out_ += "  strict bind on;\n";
        }
        put(out_, "  neighbor {}", session.peer.text());
        if (session.peer_port != 0) {
            put(out_, " port {}", session.peer_port);
        }
        put(out_, " as {};\n", session.peer_as);
    }

    void put_channel(const Session& session) {
        Family family = session.peer.family();
        auto name = suffix(family);
        auto put_calls = [&](bool is_export) {
            for (const std::string& filter : session.filters) {
                auto function = filter_function_name(filter, family, is_export);
                if (functions_.contains(function)) {
                    put(out_, "      '{}'({});\n", function, session.internal());
                }
            }
        };
        put(out_,
            "  {} {{\n"
            "    gateway recursive;\n"
            "    add paths on;\n",
            family_name(family));
        if (family == Family::V6) {
            // Not the link-local one: a multihop session's peer is not on our link.
            out_ += "    next hop prefer global;\n";
        }
        if (session.next_hop == NextHopMode::Self) {
            out_ += "    next hop self;\n";
        } else if (session.next_hop == NextHopMode::Keep) {
            out_ += "    next hop keep;\n";
        }
        out_ += "    import filter {\n";
        put_calls(false);
        put(out_,
            "      if defined(bgp_local_pref) && bgp_local_pref > {} then preference = 200;\n"
            "      accept;\n"
            "    }};\n"
            "    export filter {{\n"
            "      manx_export_metric_{}();\n",
            kMetricTop - inputs_.settings.normal_priority(family), name);
        put_calls(true);
        put(out_,
            "      manx_export_{}({});\n"
            "      reject;\n"
            "    }};\n"
            "  }};\n",
            name, session.internal());
    }

    const Inputs& inputs_;
    const Node* self_ = nullptr;
    ServiceRoutes services_;
    std::vector<Session> sessions_;
    std::set<std::string> functions_;
    std::set<std::string> broken_filters_;
    std::vector<std::string> problems_;
    std::string out_;
};

} // namespace

Result<Rendered> render_bird_config(const Inputs& inputs) {
    // One order, whatever the order of arrival was.
    Inputs sorted = inputs;
    std::sort(sorted.nodes.begin(), sorted.nodes.end(),
              [](const Node& a, const Node& b) { return a.name < b.name; });
    std::sort(sorted.pools.begin(), sorted.pools.end(),
              [](const Pool& a, const Pool& b) { return a.cidr < b.cidr; });
    std::sort(sorted.blocks.begin(), sorted.blocks.end(),
              [](const Block& a, const Block& b) { return a.cidr < b.cidr; });
    return Renderer(sorted).render();
}

} // namespace manx::bgp
