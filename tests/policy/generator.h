// SPDX-License-Identifier: Apache-2.0
// Random small clusters: few labels, ports and addresses, so that rules meet often, and every form
// that the objects' fields may have.
#pragma once

#include "tests/oracle/oracle.h"

#include <nlohmann/json.hpp>

#include <random>
#include <string>
#include <vector>

namespace manx::testing_policy {

using nlohmann::json;

class Generator {
public:
    // invalid: percent of the policies, tiers and network sets in which something is wrong.
    explicit Generator(uint64_t seed, int invalid = 0) : random_(seed), invalid_(invalid) {}

    std::vector<json> cluster();
    // 1 <= i. Running, on a node, with both families; pod() is like that most of the time.
    json plain_pod(int i);
    json pod(int i);
    json network_set(int i);
    json slice(int i);
    json policy(int i);
    std::string selector(int depth = 2);
    // Between addresses that clusters have, and some that nobody has.
    std::vector<oracle::Query> queries(int count);
    // Something in the object is wrong from now on; not all kinds know how.
    void spoil(json& object);

    bool chance(int percent) { return below(100) < percent; }

    int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

    template <typename T>
    T pick(const std::vector<T>& from) {
        return from[static_cast<size_t>(below(static_cast<int>(from.size())))];
    }

private:
    std::string value();
    std::string quoted(const std::string& text);
    std::string key();
    std::string term();
    std::string inherited_selector(const std::string& label, bool global);
    std::string ns();

    json tier(int i);
    json host_endpoint(const std::string& node);
    json service();
    void hide_metadata(json& object);

    json ports();
    json nets(int most);
    json entity(bool with_ports, bool may_service);
    json calico_rule(bool ingress);
    json calico_spec(bool global);
    json label_selector();
    json namespace_selector();
    json kubernetes_port();
    json kubernetes_peer();
    json kubernetes_spec();
    json cluster_rule(bool ingress);
    json cluster_spec();
    void spoil_calico(json& spec, bool global);
    void spoil_calico_rule(json& rule, bool ingress);
    void spoil_kubernetes(json& spec);
    void spoil_cluster(json& spec);

    std::mt19937_64 random_;
    int invalid_;
};

} // namespace manx::testing_policy
