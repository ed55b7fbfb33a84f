// SPDX-License-Identifier: Apache-2.0
#include "tests/oracle/oracle.h"

#include "tests/oracle/reading.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <sstream>
#include <tuple>

namespace manx::oracle {

namespace {

using nlohmann::json;

constexpr double kLast = std::numeric_limits<double>::infinity();

const json kNothing = json::object();

const json& member(const json& object, const char* name) {
    const auto found = object.is_object() ? object.find(name) : object.end();
    return object.is_object() && found != object.end() ? *found : kNothing;
}

bool given(const json& object, const char* name) {
    return object.is_object() && object.contains(name) && !object[name].is_null();
}

std::string text(const json& object, const char* name) {
    const json& value = member(object, name);
    return value.is_string() ? value.get<std::string>() : "";
}

// Evaluates while reading: no tree is ever made.
class Evaluator {
public:
    Evaluator(const std::string& text, const Labels& labels, bool all, bool global)
        : text_(text), labels_(labels), all_(all), global_(global) {}

    std::optional<bool> run() {
        blank();
        if (at_ == text_.size()) {
            return all_;
        }
        const bool value = alternatives();
        blank();
        return ok_ && at_ == text_.size() ? std::optional(value) : std::nullopt;
    }

private:
    void blank() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) {
            ++at_;
        }
    }

    bool eat(const char* what) {
        blank();
        const std::string token = what;
        if (text_.compare(at_, token.size(), token) == 0) {
            at_ += token.size();
            return true;
        }
        return false;
    }

    bool alternatives() {
        bool value = conjunction();
        while (ok_ && eat("||")) {
            const bool next = conjunction();
            value = value || next;
        }
        return value;
    }

    bool conjunction() {
        bool value = unary();
        while (ok_ && eat("&&")) {
            const bool next = unary();
            value = value && next;
        }
        return value;
    }

    bool unary() {
        if (eat("!")) {
            return !unary();
        }
        return primary();
    }

    bool primary() {
        if (eat("(")) {
            const bool value = alternatives();
            ok_ = ok_ && eat(")");
            return value;
        }
        if (eat("all()")) {
            return all_;
        }
        if (eat("global()")) {
            return global_;
        }
        if (eat("has(")) {
            const std::string key = word();
            ok_ = ok_ && eat(")");
            return labels_.contains(key);
        }
        const std::string key = word();
        const auto found = labels_.find(key);
        const bool there = found != labels_.end();
        const std::string value = there ? found->second : "";
        if (eat("==")) {
            const std::string other = quoted();
            return there && value == other;
        }
        if (eat("!=")) {
            const std::string other = quoted();
            return !there || value != other;
        }
        if (eat("contains")) {
            const std::string other = quoted();
            return there && value.find(other) != std::string::npos;
        }
        if (eat("starts")) {
            ok_ = ok_ && eat("with");
            const std::string other = quoted();
            return there && value.rfind(other, 0) == 0;
        }
        if (eat("ends")) {
            ok_ = ok_ && eat("with");
            const std::string other = quoted();
            return there && value.size() >= other.size() &&
                   value.compare(value.size() - other.size(), other.size(), other) == 0;
        }
        const bool negative = eat("not");
        if (eat("in")) {
            const bool member_of = listed(value);
            return negative ? !there || !member_of : there && member_of;
        }
        ok_ = false;
        return false;
    }

    bool listed(const std::string& value) {
        bool found = false;
        ok_ = ok_ && eat("{");
        while (ok_ && !eat("}")) {
            found = (quoted() == value) || found;
            if (!eat(",")) {
                ok_ = ok_ && eat("}");
                break;
            }
        }
        return found;
    }

    std::string word() {
        blank();
        std::string out;
        while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 ||
                                      std::string("_./-").find(text_[at_]) != std::string::npos)) {
            out += text_[at_++];
        }
        ok_ = ok_ && !out.empty();
        return out;
    }

    std::string quoted() {
        blank();
        if (at_ >= text_.size() || (text_[at_] != '"' && text_[at_] != '\'')) {
            ok_ = false;
            return "";
        }
        const size_t end = text_.find(text_[at_], at_ + 1);
        if (end == std::string::npos) {
            ok_ = false;
            return "";
        }
        const std::string out = text_.substr(at_ + 1, end - at_ - 1);
        at_ = end + 1;
        return out;
    }

    const std::string& text_;
    const Labels& labels_;
    bool all_;
    bool global_;
    size_t at_ = 0;
    bool ok_ = true;
};

bool yes(const std::string& selector, const Labels& labels, bool all = true, bool global = true) {
    return World::selects(selector, labels, all, global).value_or(false);
}

// metav1.LabelSelector.
bool label_selector(const json& selector, const Labels& labels) {
    for (const auto& [key, value] : member(selector, "matchLabels").items()) {
        const auto found = labels.find(key);
        if (found == labels.end() || found->second != value.get<std::string>()) {
            return false;
        }
    }
    for (const auto& expression : member(selector, "matchExpressions")) {
        const auto found = labels.find(text(expression, "key"));
        const bool there = found != labels.end();
        const json& values = member(expression, "values");
        const bool listed = there && std::ranges::find(values, json(found->second)) != values.end();
        const std::string op = text(expression, "operator");
        if ((op == "In" && !listed) || (op == "NotIn" && listed) || (op == "Exists" && !there) ||
            (op == "DoesNotExist" && there)) {
            return false;
        }
    }
    return true;
}

int protocol_of(const json& value) {
    if (value.is_number()) {
        return value.get<int>();
    }
    static const std::map<std::string, int> kNames{{"tcp", 6},     {"udp", 17},   {"icmp", 1},
                                                   {"icmpv6", 58}, {"sctp", 132}, {"udplite", 136}};
    std::string word = value.get<std::string>();
    std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
    const auto found = kNames.find(word);
    return found == kNames.end() ? std::stoi(word) : found->second;
}

bool in_nets(const json& nets, const IpAddress& address) {
    return std::ranges::any_of(nets, [&](const json& net) {
        const auto cidr = Cidr::parse(net.get<std::string>());
        return cidr && cidr->contains(address);
    });
}

Labels string_map(const json& object) {
    Labels out;
    for (const auto& [key, value] : object.items()) {
        if (value.is_string()) {
            out[key] = value.get<std::string>();
        }
    }
    return out;
}

// Labels of an object, those in Calico's annotation over its own.
Labels labels_of(const json& object) {
    const json& meta = member(object, "metadata");
    Labels out = string_map(member(meta, "labels"));
    const std::string hidden = text(member(meta, "annotations"), "projectcalico.org/metadata");
    if (!hidden.empty()) {
        const json inner = json::parse(hidden, nullptr, false);
        for (const auto& [key, value] : string_map(member(inner, "labels"))) {
            out[key] = value;
        }
    }
    return out;
}

std::string name_of(const json& object) {
    const json& meta = member(object, "metadata");
    const std::string hidden = text(member(meta, "annotations"), "projectcalico.org/metadata");
    if (!hidden.empty()) {
        const json inner = json::parse(hidden, nullptr, false);
        if (const std::string name = text(inner, "name"); !name.empty()) {
            return name;
        }
    }
    // Calico once stored policies of the default tier under another name.
    const std::string name = text(meta, "name");
    const std::string kind = text(object, "kind");
    const std::string tier = text(member(object, "spec"), "tier");
    const bool calico = kind.ends_with("NetworkPolicy") && kind != "ClusterNetworkPolicy" &&
                        text(object, "apiVersion").find("projectcalico.org") != std::string::npos;
    return calico && (tier.empty() || tier == "default") && name.starts_with("default.")
               ? name.substr(std::string("default.").size())
               : name;
}

std::string namespace_of(const json& object) {
    const std::string ns = text(member(object, "metadata"), "namespace");
    return ns.empty() ? "default" : ns;
}

} // namespace

std::optional<bool> World::selects(const std::string& selector, const Labels& labels, bool all,
                                   bool global) {
    return Evaluator(selector, labels, all, global).run();
}

void World::add(const json& object) {
    ReadObject read = read_object(object);
    if (read.reading != Reading::Refused) {
        objects_.push_back(std::move(read.object));
    }
}

void World::prepare() {
    things_.clear();
    policies_.clear();
    services_.clear();
    service_ips_.clear();
    nodes_.clear();
    tiers_ = {
        {"kube-admin", {1000, true}}, {"default", {1e6, false}}, {"kube-baseline", {1e7, true}}};
    std::map<std::string, Labels> namespaces;
    std::map<std::string, Labels> accounts;
    for (const json& object : objects_) {
        const std::string kind = text(object, "kind");
        if (kind == "Namespace") {
            namespaces[name_of(object)] = labels_of(object);
            namespaces[name_of(object)]["projectcalico.org/name"] = name_of(object);
        } else if (kind == "ServiceAccount") {
            const std::string key = namespace_of(object) + "/" + name_of(object);
            accounts[key] = labels_of(object);
            accounts[key]["projectcalico.org/name"] = name_of(object);
        }
    }
    for (const json& object : objects_) {
        const std::string kind = text(object, "kind");
        const json& spec = member(object, "spec");
        Thing thing;
        thing.labels = labels_of(object);
        thing.name = name_of(object);
        if (kind == "Pod") {
            const json& status = member(object, "status");
            const std::string phase = text(status, "phase");
            if (member(spec, "hostNetwork") == true || phase == "Succeeded" || phase == "Failed") {
                continue;
            }
            const json& notes = member(member(object, "metadata"), "annotations");
            if (given(member(object, "metadata"), "deletionTimestamp") &&
                given(notes, "cni.projectcalico.org/podIP") &&
                text(notes, "cni.projectcalico.org/podIP").empty()) {
                continue; // the CNI plugin has taken its network down
            }
            thing.pod = true;
            thing.ns = namespace_of(object);
            thing.node = text(spec, "nodeName");
            thing.account = text(spec, "serviceAccountName");
            thing.labels["projectcalico.org/namespace"] = thing.ns;
            thing.labels["projectcalico.org/orchestrator"] = "k8s";
            if (!thing.account.empty()) {
                thing.labels["projectcalico.org/serviceaccount"] = thing.account;
            }
            for (const auto& ip : member(status, "podIPs")) {
                thing.nets.push_back(Cidr::host(*IpAddress::parse(text(ip, "ip"))));
            }
            if (thing.nets.empty() && !text(status, "podIP").empty()) {
                thing.nets.push_back(Cidr::host(*IpAddress::parse(text(status, "podIP"))));
            }
            if (thing.nets.empty()) {
                // No kubelet has written the status: what the CNI plugin wrote, "a/32,b/128".
                std::istringstream list(text(member(member(object, "metadata"), "annotations"),
                                             "cni.projectcalico.org/podIPs"));
                for (std::string one; std::getline(list, one, ',');) {
                    if (const auto cidr = Cidr::parse(one)) {
                        thing.nets.push_back(*cidr);
                    }
                }
            }
            for (const auto& container : member(spec, "containers")) {
                for (const auto& port : member(container, "ports")) {
                    thing.ports.push_back(
                        {text(port, "name"),
                         given(port, "protocol") ? protocol_of(port["protocol"]) : 6,
                         port.value("containerPort", 0)});
                }
            }
        } else if (kind == "HostEndpoint") {
            for (const auto& address : member(spec, "expectedIPs")) {
                thing.nets.push_back(Cidr::host(*IpAddress::parse(address.get<std::string>())));
            }
            for (const auto& port : member(spec, "ports")) {
                thing.ports.push_back(
                    {text(port, "name"), protocol_of(port["protocol"]), port.value("port", 0)});
            }
        } else if (kind == "NetworkSet" || kind == "GlobalNetworkSet") {
            if (kind == "NetworkSet") {
                thing.ns = namespace_of(object);
                thing.labels["projectcalico.org/namespace"] = thing.ns;
            }
            for (const auto& net : member(spec, "nets")) {
                thing.nets.push_back(*Cidr::parse(net.get<std::string>()));
            }
        } else if (kind == "Tier") {
            TierEntry& tier = tiers_[thing.name];
            const bool builtin = thing.name == "default" || thing.name.starts_with("kube-");
            if (!builtin) { // whose order is part of their meaning
                tier.order = given(spec, "order") ? spec["order"].get<double>() : kLast;
            }
            tier.pass = text(spec, "defaultAction") == "Pass";
            continue;
        } else if (kind == "Node") {
            for (const auto& address : member(member(object, "status"), "addresses")) {
                if (const auto ip = IpAddress::parse(text(address, "address"))) {
                    nodes_[thing.name].push_back(*ip);
                }
            }
            continue;
        } else if (kind == "EndpointSlice") {
            const std::string service =
                namespace_of(object) + "/" + thing.labels["kubernetes.io/service-name"];
            for (const auto& endpoint : member(object, "endpoints")) {
                for (const auto& one : member(endpoint, "addresses")) {
                    const auto address = IpAddress::parse(one.get<std::string>());
                    if (!address) {
                        continue;
                    }
                    service_ips_[service].push_back(*address);
                    for (const auto& port : member(object, "ports")) {
                        if (given(port, "port")) {
                            services_[service].push_back(
                                {*address,
                                 given(port, "protocol") ? protocol_of(port["protocol"]) : 6,
                                 port["port"].get<int>()});
                        }
                    }
                }
            }
            continue;
        } else if (kind.ends_with("NetworkPolicy")) {
            PolicyEntry policy;
            policy.kind = kind;
            policy.name = thing.name;
            policy.spec = spec;
            policy.title = kind;
            policy.staged = kind.starts_with("Staged");
            const bool kubernetes = kind == "StagedKubernetesNetworkPolicy" ||
                                    (kind == "NetworkPolicy" &&
                                     text(object, "apiVersion").starts_with("networking.k8s.io"));
            if (kind == "ClusterNetworkPolicy") {
                policy.tier = text(spec, "tier") == "Admin" ? "kube-admin" : "kube-baseline";
                policy.order = member(spec, "priority").get<double>();
                policy.kind = "KubernetesClusterNetworkPolicy";
            } else if (kubernetes) {
                policy.kind = policy.staged ? kind : "KubernetesNetworkPolicy";
                policy.title = policy.kind;
                policy.ns = namespace_of(object);
                policy.tier = "default";
                policy.order = 1000;
            } else {
                policy.ns = kind.find("Global") == std::string::npos ? namespace_of(object) : "";
                policy.tier = text(spec, "tier").empty() ? "default" : text(spec, "tier");
                policy.order = given(spec, "order") ? spec["order"].get<double>() : kLast;
            }
            const std::string action = text(spec, "stagedAction");
            const bool host_only =
                member(spec, "doNotTrack") == true || member(spec, "preDNAT") == true;
            if (!(policy.staged && !action.empty() && action != "Set") && !host_only) {
                policies_.push_back(std::move(policy));
            }
            continue;
        } else {
            continue;
        }
        if (!thing.ns.empty()) {
            thing.ns_labels = namespaces[thing.ns];
            thing.account_labels = accounts[thing.ns + "/" + thing.account];
        }
        for (const auto& [key, value] : thing.ns_labels) {
            thing.labels.emplace("pcns." + key, value);
        }
        for (const auto& [key, value] : thing.account_labels) {
            thing.labels.emplace("pcsa." + key, value);
        }
        things_.push_back(std::move(thing));
    }
    std::ranges::sort(policies_, [&](const PolicyEntry& a, const PolicyEntry& b) {
        const auto rank = [&](const PolicyEntry& policy) {
            const auto tier = tiers_.find(policy.tier);
            return std::tuple(tier == tiers_.end(), tier == tiers_.end() ? 0 : tier->second.order,
                              policy.tier, policy.order,
                              policy.name + "/" + policy.ns + "/" + policy.kind);
        };
        return rank(a) < rank(b);
    });
}

const Thing* World::pod_at(const IpAddress& address) const {
    for (const auto& thing : things_) {
        if (thing.pod && std::ranges::find(thing.nets, Cidr::host(address)) != thing.nets.end()) {
            return &thing;
        }
    }
    return nullptr;
}

std::optional<IpAddress> World::pod_address(const std::string& pod, Family family) const {
    for (const auto& thing : things_) {
        if (thing.pod && thing.ns + "/" + thing.name == pod) {
            for (const auto& net : thing.nets) {
                if (net.family() == family) {
                    return net.address();
                }
            }
        }
    }
    return std::nullopt;
}

bool World::applies(const PolicyEntry& policy, const Thing& pod, bool ingress) const {
    const json& spec = policy.spec;
    if (policy.kind == "KubernetesClusterNetworkPolicy") {
        const json& subject = member(spec, "subject");
        const json& rules = member(spec, ingress ? "ingress" : "egress");
        if (rules.empty()) {
            return false;
        }
        if (given(subject, "namespaces")) {
            return label_selector(subject["namespaces"], pod.ns_labels);
        }
        return label_selector(member(subject["pods"], "namespaceSelector"), pod.ns_labels) &&
               label_selector(member(subject["pods"], "podSelector"), pod.labels);
    }
    const bool kubernetes =
        policy.kind == "KubernetesNetworkPolicy" || policy.kind == "StagedKubernetesNetworkPolicy";
    const json& types = member(spec, kubernetes ? "policyTypes" : "types");
    const bool named =
        std::ranges::find(types, json(ingress ? "Ingress" : "Egress")) != types.end();
    if (types.empty() ? kubernetes && !ingress : !named) {
        return false;
    }
    if (kubernetes) {
        return pod.ns == policy.ns && label_selector(member(spec, "podSelector"), pod.labels);
    }
    if (!policy.ns.empty() && pod.ns != policy.ns) {
        return false;
    }
    if (policy.ns.empty() && !text(spec, "namespaceSelector").empty() &&
        !yes(text(spec, "namespaceSelector"), pod.ns_labels, true, false)) {
        return false;
    }
    if (!text(spec, "serviceAccountSelector").empty() &&
        !yes(text(spec, "serviceAccountSelector"), pod.account_labels, !pod.account.empty(),
             pod.account.empty())) {
        return false;
    }
    return yes(text(spec, "selector"), pod.labels);
}

namespace {

// One object against the selectors of an entity.
bool selected(const Thing& thing, const json& entity, const std::string& ns) {
    const json& accounts = member(entity, "serviceAccounts");
    if (!text(entity, "namespaceSelector").empty()) {
        if (!yes(text(entity, "namespaceSelector"), thing.ns_labels, !thing.ns.empty(),
                 thing.ns.empty())) {
            return false;
        }
    } else if (!ns.empty() && thing.ns != ns) {
        return false;
    }
    const json& names = member(accounts, "names");
    if (!names.empty() &&
        (thing.account.empty() || std::ranges::find(names, json(thing.account)) == names.end())) {
        return false;
    }
    if (!text(accounts, "selector").empty() &&
        !yes(text(accounts, "selector"), thing.account_labels, !thing.account.empty(),
             thing.account.empty())) {
        return false;
    }
    return yes(text(entity, "selector"), thing.labels);
}

bool selects_anything(const json& entity, const std::string& ns) {
    const json& accounts = member(entity, "serviceAccounts");
    return !text(entity, "namespaceSelector").empty() || !text(entity, "selector").empty() ||
           !member(accounts, "names").empty() || !text(accounts, "selector").empty() ||
           (!ns.empty() && !text(entity, "notSelector").empty());
}

bool at_address(const Thing& thing, const IpAddress& address) {
    return std::ranges::any_of(thing.nets, [&](const Cidr& net) { return net.contains(address); });
}

} // namespace

bool World::has_port(const IpAddress& address, const std::string& name, int protocol, int port,
                     const std::optional<json>& entity, const std::string& ns) const {
    return std::ranges::any_of(things_, [&](const Thing& thing) {
        return at_address(thing, address) &&
               (!entity || !selects_anything(*entity, ns) || selected(thing, *entity, ns)) &&
               std::ranges::any_of(thing.ports, [&](const Thing::Port& one) {
                   return one.name == name && one.protocol == protocol && one.number == port;
               });
    });
}

bool World::calico_entity(const json& entity, const std::string& ns, const IpAddress& address,
                          int port, int protocol, bool source) const {
    if (given(entity, "services")) {
        const json& service = entity["services"];
        const std::string in = text(service, "namespace").empty() ? ns : text(service, "namespace");
        const std::string key = in + "/" + text(service, "name");
        if (source) {
            const auto found = service_ips_.find(key);
            if (found == service_ips_.end() ||
                std::ranges::find(found->second, address) == found->second.end()) {
                return false;
            }
        } else {
            const auto found = services_.find(key);
            if (found == services_.end() ||
                std::ranges::none_of(found->second, [&](const ServicePort& one) {
                    return one.address == address && one.protocol == protocol && one.port == port;
                })) {
                return false;
            }
        }
    }
    if (selects_anything(entity, ns) && std::ranges::none_of(things_, [&](const Thing& thing) {
            return at_address(thing, address) && selected(thing, entity, ns);
        })) {
        return false;
    }
    if (!text(entity, "notSelector").empty() &&
        std::ranges::any_of(things_, [&](const Thing& thing) {
            return at_address(thing, address) && yes(text(entity, "notSelector"), thing.labels);
        })) {
        return false;
    }
    if (!member(entity, "nets").empty() && !in_nets(entity["nets"], address)) {
        return false;
    }
    if (!member(entity, "notNets").empty() && in_nets(entity["notNets"], address)) {
        return false;
    }
    const auto listed = [&](const json& ports) {
        return std::ranges::any_of(ports, [&](const json& one) {
            if (one.is_number()) {
                return one.get<int>() == port;
            }
            const std::string word = one.get<std::string>();
            if (!std::ranges::all_of(word, [](char c) {
                    return c == ':' || std::isdigit(static_cast<unsigned char>(c)) != 0;
                })) {
                return has_port(address, word, protocol, port, entity, ns);
            }
            const size_t colon = word.find(':');
            const int first = std::stoi(word);
            const int last = colon == std::string::npos ? first : std::stoi(word.substr(colon + 1));
            return first <= port && port <= last;
        });
    };
    if (!member(entity, "ports").empty() && !listed(entity["ports"])) {
        return false;
    }
    return member(entity, "notPorts").empty() || !listed(entity["notPorts"]);
}

bool World::calico_rule(const json& rule, const std::string& ns, const Query& query) const {
    if (given(rule, "ipVersion") && (rule["ipVersion"] == 4) != query.from.is_v4()) {
        return false;
    }
    if (given(rule, "protocol") && protocol_of(rule["protocol"]) != query.protocol) {
        return false;
    }
    if (given(rule, "notProtocol") && protocol_of(rule["notProtocol"]) == query.protocol) {
        return false;
    }
    const auto icmp = [&](const json& match) {
        return (!given(match, "type") || match["type"] == query.port >> 8) &&
               (!given(match, "code") || match["code"] == (query.port & 0xff));
    };
    if (given(rule, "icmp") && !icmp(rule["icmp"])) {
        return false;
    }
    if (given(rule, "notICMP") && given(rule["notICMP"], "type") && icmp(rule["notICMP"])) {
        return false;
    }
    return calico_entity(member(rule, "source"), ns, query.from, query.source_port, query.protocol,
                         true) &&
           calico_entity(member(rule, "destination"), ns, query.to, query.port, query.protocol,
                         false);
}

bool World::kubernetes_rule(const json& rule, const std::string& ns, bool ingress,
                            const Query& query) const {
    const json& ports = member(rule, "ports");
    const auto port_fits = [&](const json& one) {
        if ((given(one, "protocol") ? protocol_of(one["protocol"]) : 6) != query.protocol) {
            return false;
        }
        if (!given(one, "port")) {
            return true;
        }
        if (one["port"].is_string()) {
            return has_port(query.to, one["port"].get<std::string>(), query.protocol, query.port,
                            std::nullopt, "");
        }
        const int first = one["port"].get<int>();
        return first <= query.port && query.port <= one.value("endPort", first);
    };
    if (!ports.empty() && std::ranges::none_of(ports, port_fits)) {
        return false;
    }
    const json& peers = member(rule, ingress ? "from" : "to");
    const IpAddress& other = ingress ? query.from : query.to;
    const auto peer_fits = [&](const json& peer) {
        if (given(peer, "ipBlock")) {
            return in_nets(json::array({peer["ipBlock"]["cidr"]}), other) &&
                   !in_nets(member(peer["ipBlock"], "except"), other);
        }
        return std::ranges::any_of(things_, [&](const Thing& thing) {
            if (!thing.pod || !at_address(thing, other)) {
                return false;
            }
            const bool place = given(peer, "namespaceSelector")
                                   ? label_selector(peer["namespaceSelector"], thing.ns_labels)
                                   : thing.ns == ns;
            return place && label_selector(member(peer, "podSelector"), thing.labels);
        });
    };
    return peers.empty() || std::ranges::any_of(peers, peer_fits);
}

bool World::cluster_rule(const json& rule, bool ingress, const Query& query) const {
    const IpAddress& other = ingress ? query.from : query.to;
    const auto peer_fits = [&](const json& peer) {
        if (given(peer, "networks")) {
            return in_nets(peer["networks"], other);
        }
        return std::ranges::any_of(things_, [&](const Thing& thing) {
            if (!thing.pod || !at_address(thing, other)) {
                return false;
            }
            if (given(peer, "namespaces")) {
                return label_selector(peer["namespaces"], thing.ns_labels);
            }
            return label_selector(member(member(peer, "pods"), "namespaceSelector"),
                                  thing.ns_labels) &&
                   label_selector(member(member(peer, "pods"), "podSelector"), thing.labels);
        });
    };
    const auto protocol_fits = [&](const json& one) {
        if (given(one, "destinationNamedPort")) {
            return (query.protocol == 6 || query.protocol == 17 || query.protocol == 132) &&
                   has_port(query.to, text(one, "destinationNamedPort"), query.protocol, query.port,
                            std::nullopt, "");
        }
        const char* word = query.protocol == 6     ? "tcp"
                           : query.protocol == 17  ? "udp"
                           : query.protocol == 132 ? "sctp"
                                                   : "none";
        if (!given(one, word)) {
            return false;
        }
        const json& port = member(one[word], "destinationPort");
        if (given(port, "number")) {
            return port["number"] == query.port;
        }
        return !given(port, "range") ||
               (port["range"]["start"] <= query.port && query.port <= port["range"]["end"]);
    };
    const json& protocols = member(rule, "protocols");
    return std::ranges::any_of(member(rule, ingress ? "from" : "to"), peer_fits) &&
           (protocols.empty() || std::ranges::any_of(protocols, protocol_fits));
}

World::Outcome World::walk(const PolicyEntry& policy, bool ingress, const Query& query,
                           SideAnswer& answer) const {
    int index = 0;
    for (const json& rule : member(policy.spec, ingress ? "ingress" : "egress")) {
        std::string action = text(rule, "action");
        bool match = false;
        if (given(rule, "nothing") || given(rule, "everything")) {
            match = given(rule, "everything");
        } else if (policy.kind == "KubernetesClusterNetworkPolicy") {
            match = cluster_rule(rule, ingress, query);
            action = action == "Accept" ? "Allow" : action;
        } else if (policy.kind == "KubernetesNetworkPolicy" ||
                   policy.kind == "StagedKubernetesNetworkPolicy") {
            match = kubernetes_rule(rule, policy.ns, ingress, query);
            action = "Allow";
        } else {
            match = calico_rule(rule, policy.ns, query);
        }
        answer.log |= match && action == "Log";
        if (match && action != "Log") {
            answer.rule = policy.title + " " + policy.ns + (policy.ns.empty() ? "" : "/") +
                          policy.name + (ingress ? " ingress[" : " egress[") +
                          std::to_string(index) + "]";
            answer.staged = policy.staged;
            return action == "Allow"  ? Outcome::Allow
                   : action == "Pass" ? Outcome::Pass
                                      : Outcome::Deny;
        }
        ++index;
    }
    return Outcome::NoMatch;
}

SideAnswer World::judge(const Thing& pod, bool ingress, const Query& query, bool staged) const {
    SideAnswer answer;
    for (size_t i = 0; i < policies_.size();) {
        const std::string& tier = policies_[i].tier;
        bool takes_part = false;
        bool with_staged = false;
        bool next_tier = false;
        for (; i < policies_.size() && policies_[i].tier == tier; ++i) {
            const PolicyEntry& policy = policies_[i];
            if ((policy.staged && !staged) || !applies(policy, pod, ingress)) {
                continue;
            }
            takes_part = true;
            with_staged |= policy.staged;
            if (next_tier) {
                continue;
            }
            const Outcome outcome = walk(policy, ingress, query, answer);
            if (outcome == Outcome::Allow || outcome == Outcome::Deny) {
                answer.allow = outcome == Outcome::Allow;
                answer.by_rule = true;
                return answer;
            }
            next_tier = outcome == Outcome::Pass;
        }
        const auto known = tiers_.find(tier);
        const bool pass = known != tiers_.end() && known->second.pass;
        if (takes_part && !next_tier && !pass) {
            answer.allow = false;
            answer.by_rule = true;
            answer.staged = with_staged;
            answer.rule = "Tier " + tier + (with_staged ? ", staged" : "") +
                          (ingress ? " ingress" : " egress") + " default action";
            return answer;
        }
    }
    answer.allow = true;
    answer.staged = false;
    answer.rule = "profile of the namespace";
    return answer;
}

bool World::is_host(const std::string& node, const IpAddress& address) const {
    const auto host = nodes_.find(node);
    return host != nodes_.end() && std::ranges::find(host->second, address) != host->second.end();
}

Answer World::ask(const Query& query) const {
    Answer answer;
    if (const Thing* from = pod_at(query.from)) {
        answer.egress = judge(*from, false, query);
    } else {
        answer.egress.rule = "not a pod";
    }
    if (const Thing* to = pod_at(query.to)) {
        if (is_host(to->node, query.from)) {
            answer.ingress.rule = "the pod's own host";
        } else {
            answer.ingress = judge(*to, true, query);
        }
    } else {
        answer.ingress.rule = "not a pod";
    }
    return answer;
}

} // namespace manx::oracle
