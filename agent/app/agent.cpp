// SPDX-License-Identifier: Apache-2.0
#include "agent/app/agent.h"

#include "agent/api/bgp.h"
#include "agent/api/cluster_information.h"
#include "agent/api/cluster_policy.h"
#include "agent/api/felix_configuration.h"
#include "agent/api/host_endpoint.h"
#include "agent/api/ipam.h"
#include "agent/api/k8s_policy.h"
#include "agent/api/namespace.h"
#include "agent/api/network_set.h"
#include "agent/api/node.h"
#include "agent/api/pod.h"
#include "agent/api/policy.h"
#include "agent/api/pool.h"
#include "agent/api/service.h"
#include "agent/api/tier.h"
#include "agent/app/agent_report.h"
#include "agent/app/collector.h"
#include "agent/app/dataplane_report.h"
#include "agent/app/datastore_lock.h"
#include "agent/app/enforcer.h"
#include "agent/app/last_good.h"
#include "agent/app/masquerade_care.h"
#include "agent/app/memory_return.h"
#include "agent/app/node_addresses.h"
#include "agent/app/node_writer.h"
#include "agent/app/object_problems.h"
#include "agent/app/policy_names.h"
#include "agent/app/pool_sets.h"
#include "agent/app/rule_report.h"
#include "agent/app/settings.h"
#include "agent/app/setup.h"
#include "agent/app/status_server.h"
#include "agent/app/syncer.h"
#include "agent/app/tunnel_care.h"
#include "agent/app/unenforced.h"
#include "agent/bgp/manager.h"
#include "agent/cni/ipam_addresses.h"
#include "agent/cni/server.h"
#include "agent/dataplane/events.h"
#include "agent/dataplane/host_guard.h"
#include "agent/dataplane/host_links.h"
#include "agent/dataplane/host_settings.h"
#include "agent/dataplane/pinned_tables.h"
#include "agent/dataplane/policy_tables.h"
#include "agent/datastore/sqlite_store.h"
#include "agent/ipam/ipam.h"
#include "base/log.h"
#include "base/worker.h"
#include "loader/loader.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

namespace manx::app {

namespace {

log::Logger logger() {
    return log::get("agent");
}

} // namespace

class Agent::Impl {
public:
    Impl(EventLoop& loop, AgentConfig config)
        : loop_(loop), config_(std::move(config)), settings_(config_.node_name, config_.shared) {}

    // In this order: each step uses only what the earlier ones made.
    Result<void> start() {
        TRY(make_folder(config_.run_dir));
        TRY(make_folder(config_.state_dir));
        TRY_ASSIGN(node_lock_, lock_node(config_));
        TRY_ASSIGN(status_, StatusServer::create(loop_, config_));
        TRY(check_kernel());
        TRY_ASSIGN(store_, datastore::open_sqlite(config_.datastore_path));
        TRY_ASSIGN(last_good_, LastGood::open(config_.state_dir + "/last-good"));
        node_writer_ = std::make_unique<NodeWriter>(loop_, *store_, config_.node_name);
        TRY(open_dataplane());
        TRY(serve_cni());
        TRY(follow_host());
        start_bgp();
        TRY(follow_datastore());
        collector_ = std::make_unique<Collector>(loop_, *store_,
                                                 std::chrono::seconds(config_.leak_grace_seconds));
        TRY(collector_->start());
        serve_people();
        logger()->info("started node={} datastore={} tcx={}", config_.node_name,
                       config_.datastore_path, loader_->uses_tcx());
        return {};
    }

private:
    Result<void> open_dataplane() {
        TRY_ASSIGN(auto opened, loader::Loader::open(config_.bpffs, load_options(config_)));
        loader_.emplace(std::move(opened));
        TRY(judge_to_host());
        TRY_ASSIGN(table_writer_, dataplane::PinnedTables::open(config_.bpffs));
        tables_.emplace(*table_writer_);
        enforcer_.emplace(loop_, *loader_, *tables_, config_.node_name,
                          config_.cut_flows_on_policy_change);
        TRY_ASSIGN(int events, loader_->map_fd(maps::kEventsName));
        TRY_ASSIGN(events_, dataplane::PacketEvents::create(loop_, events, [this](uint32_t rule) {
                       const auto* name = calculator().rules().find(rule);
                       return name != nullptr ? name->text() : std::to_string(rule);
                   }));
        return dataplane::apply_host_settings();
    }

    // What pods send to services of this very host: judged there, or dropped if it might be denied.
    Result<void> judge_to_host() {
        TRY_ASSIGN(judges_to_host_, loader_->attach_to_host());
        if (judges_to_host_) {
            // Of an earlier kernel or configuration; without nftables there is none.
            (void)dataplane::set_host_guard(false);
            return {};
        }
        TRY(dataplane::set_host_guard(true));
        logger()->warn("pods with an egress policy do not reach services whose backend is this "
                       "node itself reason=\"{}\"",
                       config_.use_netfilter ? "the kernel has no netfilter programs (Linux 6.4)"
                                             : "bpf.netfilter is false");
        return {};
    }

    Result<void> serve_cni() {
        allocator_ = std::make_unique<ipam::Allocator>(*store_, config_.node_name);
        TRY(allocator_->watch());
        // The first pod finds the node's blocks at hand; the loop does not wait for the datastore.
        warm_up_.post([this] {
            if (auto warm = allocator_->warm_up(); !warm) {
                logger()->warn("blocks not read yet reason=\"{}\"", warm.error().text());
            }
        });
        addresses_ = std::make_unique<cni::IpamAddresses>(*allocator_, config_.node_name);
        tunnels_ =
            std::make_unique<TunnelCare>(loop_, *store_, *allocator_, *node_writer_,
                                         config_.node_name, config_.wireguard_host_encryption);
        TRY_ASSIGN(cni_, cni::CniServer::create(
                             {.loop = loop_,
                              .store = *store_,
                              .addresses = *addresses_,
                              .sink = *enforcer_,
                              .when_current =
                                  [this](auto fn) {
                                      syncer_->when_applied(std::move(fn));
                                  }}, // there by then
                             {.socket_path = config_.cni_socket, .state_dir = config_.state_dir}));
        return cni_->start();
    }

    Result<void> follow_host() {
        dataplane::HostLinksHandler handler;
        handler.attach_uplink = [this](const netlink::LinkInfo& link) -> Result<void> {
            TRY(dataplane::apply_uplink_settings(link.name));
            return loader_->attach_uplink(link.ifindex);
        };
        handler.uplink_gone = [this](uint32_t ifindex) { drop_uplink(ifindex); };
        handler.host_addresses = [this](const std::set<IpAddress>& addresses) {
            calculator().set_host_addresses(std::vector(addresses.begin(), addresses.end()));
            enforcer_->datastore_changed(false);
            refresh_node();
        };
        handler.ways_changed = [this] {
            if (auto bumped = loader_->bump_epoch(); !bumped) {
                logger()->error("flows keep their old way out reason=\"{}\"",
                                bumped.error().text());
            }
            update_mtu();
            if (links_) {
                report_network_state();
            }
        };
        handler.workload_routes = [this](uint32_t ifindex) { cni_->workload_routes(ifindex); };
        handler.workload_hooks = [this](uint32_t ifindex) { cni_->workload_hooks(ifindex); };
        handler.workload_state = [this](uint32_t ifindex, bool up) {
            cni_->workload_state(ifindex, up);
        };
        handler.workload_gone = [this](uint32_t ifindex) { cni_->workload_gone(ifindex); };
        handler.workloads_unknown = [this] { look_after_workloads(); };
        TRY_ASSIGN(links_,
                   dataplane::HostLinks::create(loop_, config_.uplinks, std::move(handler)));
        update_mtu();
        look_after_workloads(); // events tell of changes from here on
        return {};
    }

    void look_after_workloads() {
        if (auto cleaned = loader_->clean_up_gone_workloads(); !cleaned) {
            logger()->warn("pins of devices that are gone stay reason=\"{}\"",
                           cleaned.error().text());
        }
        cni_->look_after_all();
    }

    void drop_uplink(uint32_t ifindex) {
        if (auto detached = loader_->detach(ifindex); !detached) {
            logger()->warn("programs stay on a former uplink ifindex={} reason=\"{}\"", ifindex,
                           detached.error().text());
        }
    }

    void update_mtu() {
        if (cni_ && links_) {
            cni_->set_default_mtu(config_.mtu != 0 ? config_.mtu : links_->mtu());
        }
    }

    // A node that is alone with its BIRD goes on without peers; they are metrics, not readiness.
    void start_bgp() {
        if (!config_.bird_enabled) {
            return;
        }
        bgp::BgpOptions options;
        options.node_name = config_.node_name;
        options.bird = bird_paths(config_);
        // calico-node's own variables, for clusters that come with them.
        if (auto text = process_environment("NAMESPACE"); text && !text->empty()) {
            options.secret_namespace = *text;
        }
        auto router_id = process_environment("CALICO_ROUTER_ID").value_or("");
        if (auto set = bgp::set_router_id(options, router_id); !set) {
            logger()->error("CALICO_ROUTER_ID is not used: {}", set.error().text());
        }
        bgp_ = std::make_unique<bgp::BgpManager>(loop_, std::move(options));
        bgp_->on_status([this] { report_network_state(); });
        bgp_->start();
    }

    // Kinds that one part only needs go there directly; nodes and pools have their own steps.
    Result<void> follow_datastore() {
        syncer_ = std::make_unique<Syncer>(loop_, *store_, last_good_.get());
        follow_for_policy<api::Pod>(api::Kind::Pod);
        follow_for_policy<api::Namespace>(api::Kind::Namespace);
        follow_for_policy<api::ServiceAccount>(api::Kind::ServiceAccount);
        follow_for_policy<api::HostEndpoint>(api::Kind::HostEndpoint);
        follow_for_policy<api::Tier>(api::Kind::Tier);
        follow_for_policy<api::NetworkSetOf<api::Kind::NetworkSet>>(api::Kind::NetworkSet);
        follow_for_policy<api::NetworkSetOf<api::Kind::GlobalNetworkSet>>(
            api::Kind::GlobalNetworkSet);
        follow_policies<api::Kind::K8sNetworkPolicy, api::Kind::ClusterNetworkPolicy,
                        api::Kind::NetworkPolicy, api::Kind::GlobalNetworkPolicy,
                        api::Kind::StagedNetworkPolicy, api::Kind::StagedGlobalNetworkPolicy,
                        api::Kind::StagedKubernetesNetworkPolicy>();
        follow_for_policy_and_bgp<api::Service>(api::Kind::Service);
        follow_for_policy_and_bgp<api::EndpointSlice>(api::Kind::EndpointSlice);
        follow_for_bgp<api::BgpConfiguration>(api::Kind::BgpConfiguration);
        follow_for_bgp<api::BgpPeer>(api::Kind::BgpPeer);
        follow_for_bgp<api::BgpFilter>(api::Kind::BgpFilter);
        follow_for_bgp<api::BlockAffinity>(api::Kind::BlockAffinity);
        follow_for_bgp<api::Secret>(api::Kind::Secret);
        syncer_->on<api::Node>(
            api::Kind::Node,
            [this](const api::Node& node, const datastore::Key&) { on_node(node); },
            [this](const datastore::Key& key) { on_node_removed(key); });
        syncer_->on<api::IpPool>(
            api::Kind::IpPool,
            [this](const api::IpPool& pool, const datastore::Key&) { on_pool(pool); },
            [this](const datastore::Key& key) { on_pool_removed(key); });
        follow_settings();
        syncer_->on_batch([this](bool synced) { on_batch(synced); });
        return syncer_->start();
    }

    template <typename T>
    void follow_for_policy(api::Kind kind) {
        syncer_->on<T>(
            kind,
            [this](const T& object, const datastore::Key& key) {
                calculator().upsert(object);
                if constexpr (requires { object.problems; }) {
                    problems_.report(key, object.problems, InPart::KeepsEarlier);
                }
                if constexpr (requires { api::not_enforced(object, config_.node_name); }) {
                    unenforced_.report(key, api::not_enforced(object, config_.node_name));
                }
            },
            [this](const datastore::Key& key) {
                calculator().remove(key.kind, key.ns, key.name);
                problems_.forget(key);
                unenforced_.forget(key);
            });
    }

    template <typename T>
    void follow_for_bgp(api::Kind kind) {
        if (!bgp_) {
            return;
        }
        syncer_->on<T>(
            kind, [this](const T& object, const datastore::Key&) { bgp_->upsert(object); },
            [this](const datastore::Key& key) { bgp_->remove(key.kind, key.ns, key.name); });
    }

    template <typename T>
    void follow_for_policy_and_bgp(api::Kind kind) {
        syncer_->on<T>(
            kind,
            [this](const T& object, const datastore::Key&) {
                calculator().upsert(object);
                if (bgp_) {
                    bgp_->upsert(object);
                }
            },
            [this](const datastore::Key& key) {
                calculator().remove(key.kind, key.ns, key.name);
                if (bgp_) {
                    bgp_->remove(key.kind, key.ns, key.name);
                }
            });
    }

    void follow_settings() {
        syncer_->on<api::FelixConfiguration>(
            api::Kind::FelixConfiguration,
            [this](const api::FelixConfiguration& object, const datastore::Key& key) {
                problems_.report(key, settings_.upsert(object), InPart::KeepsEarlier);
            },
            [this](const datastore::Key& key) {
                settings_.remove(key.name);
                problems_.forget(key);
                unenforced_.forget(key);
            });
        syncer_->on<api::ClusterInformation>(
            api::Kind::ClusterInformation,
            [this](const api::ClusterInformation& object, const datastore::Key&) {
                datastore_lock_.upsert(object);
            },
            [this](const datastore::Key& key) { datastore_lock_.remove(key.name); });
    }

    // What an earlier agent has set stays until the first snapshot is complete, as its tables do.
    void apply_settings() {
        const auto wanted = settings_.current();
        if (applied_settings_ == wanted) {
            return;
        }
        if (auto applied = write_settings(wanted); !applied) {
            logger()->error("settings stay as they were reason=\"{}\"", applied.error().text());
            return;
        }
        log::configure(wanted.log_level);
        logger()->info("settings {}", wanted.text());
        applied_settings_ = wanted;
    }

    Result<void> write_settings(const Settings& wanted) {
        const bool cut = config_.cut_flows_on_policy_change;
        TRY_ASSIGN(const auto live, loader_->config());
        TRY(loader_->set_config(with_settings(live, wanted, cut)));
        return cut ? loader_->bump_policy_epoch() : Result<void>{};
    }

    template <api::Kind... kKinds>
    void follow_policies() {
        (follow_policy<kKinds>(), ...);
    }

    template <api::Kind kKind>
    void follow_policy() {
        syncer_->on<api::PolicyOf<kKind>>(
            kKind,
            [this](const api::PolicyOf<kKind>& policy, const datastore::Key& key) {
                if (!policy_names_.put(key, policy.name)) {
                    return;
                }
                calculator().upsert(static_cast<const api::Policy&>(policy));
                problems_.report(key, policy.problems,
                                 policy.host_only() || policy.staged ? InPart::DecidesNothing
                                                                     : InPart::Isolates);
                unenforced_.report(key, api::not_enforced(policy));
            },
            [this](const datastore::Key& key) {
                if (const auto name = policy_names_.remove(key)) {
                    calculator().remove(key.kind, key.ns, *name);
                }
                problems_.forget(key);
                unenforced_.forget(key);
            });
    }

    void on_node(const api::Node& node) {
        if (node.meta.name == config_.node_name) {
            own_node_ = node;
            settings_.set_node_labels(node.meta.labels);
            refresh_node();
            node_writer_->object_changed();
            tunnels_->node_changed(node);
            return;
        }
        give_node(node);
    }

    void give_node(const api::Node& node) {
        calculator().upsert(node);
        if (bgp_) {
            bgp_->upsert(node);
        }
    }

    void on_node_removed(const datastore::Key& key) {
        if (key.name == config_.node_name) {
            logger()->error("the node's own object is gone, its last state stays node={}",
                            key.name);
            return;
        }
        calculator().remove(key.kind, key.ns, key.name);
        if (bgp_) {
            bgp_->remove(key.kind, key.ns, key.name);
        }
    }

    // The own node, after its object or the devices' addresses changed.
    void refresh_node() {
        if (!own_node_ || !links_) {
            return;
        }
        auto node = with_addresses(*own_node_, [this](const IpAddress& address) {
            return links_->prefix_length(address);
        });
        if (auto patch = address_patch(*own_node_, node)) {
            node_writer_->patch_addresses(std::move(*patch));
        }
        std::set<IpAddress> addresses(node.addresses.begin(), node.addresses.end());
        for (auto family : kFamilies) {
            if (const auto& address = node.address(family)) {
                addresses.insert(address->address);
            }
        }
        cni_->set_node_labels(node.meta.labels);
        allocator_->note_node_changed();
        give_node(node);
        links_->set_node_addresses(std::move(addresses));
    }

    void on_pool(const api::IpPool& pool) {
        pools_.upsert(pool);
        tunnels_->pools_changed();
        calculator().upsert(pool);
        cni_->upsert_pool(pool);
        if (bgp_) {
            bgp_->upsert(pool);
        }
    }

    void on_pool_removed(const datastore::Key& key) {
        pools_.remove(key.name);
        tunnels_->pools_changed();
        calculator().remove(key.kind, key.ns, key.name);
        cni_->remove_pool(key.name);
        if (bgp_) {
            bgp_->remove(key.kind, key.ns, key.name);
        }
    }

    void on_batch(bool synced) {
        if (synced) {
            apply_settings();
        }
        for (const auto& [name, fields] : settings_.not_enforced()) {
            unenforced_.report({api::Kind::FelixConfiguration, "", name}, fields);
        }
        enforcer_->datastore_changed(synced);
        if (const auto names = calculator().take_too_big(); !names.empty()) {
            logger()->error("too many source ports on one workload: rules that name them allow "
                            "nothing there policies=\"{}\"",
                            fmt::join(names, ", "));
        }
        trace_times();
        if (bgp_) {
            bgp_->flush(synced);
        }
        if (!synced) {
            return;
        }
        masquerade_.apply();
        const auto locked = datastore_lock_.reason(syncer_->invalid());
        cni_->set_not_ready(locked);
        tunnels_->run(!locked.empty());
        if (!std::exchange(was_synced_, true)) {
            logger()->info("in sync with the datastore updates={}", syncer_->updates());
        }
        report_network_state();
        memory_.after_updates(syncer_->updates());
    }

    // Where the time of a change goes, in CLOCK_MONOTONIC; read by scripts/bench change.
    void trace_times() const {
        const auto ns = [](std::chrono::steady_clock::time_point time) {
            return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch())
                .count();
        };
        const auto& times = syncer_->times();
        const auto written = std::chrono::steady_clock::now();
        log::get("latency")->debug(
            "batch updates={} read={} parsed={} taken={} applied={} calculated={} written={}",
            times.updates, ns(times.read), ns(times.parsed), ns(times.taken), ns(times.applied),
            ns(enforcer_->calculated()), ns(written));
    }

    calc::PolicyCalculator& calculator() { return enforcer_->calculator(); }

    void report_network_state() {
        if (!own_node_) {
            return;
        }
        auto reasons = report().not_ready();
        node_writer_->set_network_state(
            reasons.empty() ? NetworkState{true, "Manx is running on this node"}
                            : NetworkState{false, fmt::format("{}", fmt::join(reasons, "; "))});
    }

    [[nodiscard]] AgentReport report() const {
        return AgentReport({.config = config_,
                            .loader = *loader_,
                            .enforcer = *enforcer_,
                            .links = *links_,
                            .syncer = *syncer_,
                            .collector = *collector_,
                            .bgp = bgp_.get(),
                            .problems = problems_.all(),
                            .unenforced = unenforced_,
                            .masquerade_trouble = masquerade_.trouble(),
                            .locked = datastore_lock_.reason(syncer_->invalid()),
                            .settings = settings_.current().text(),
                            .has_node = own_node_.has_value(),
                            .judges_to_host = judges_to_host_});
    }

    void serve_people() {
        status_->serve({.status = [this] { return report().status(); },
                        .not_ready = [this] { return report().not_ready(); },
                        .rules = [this] { return RuleReport(*loader_, calculator()).rules(); }});
        status_->registry().add([this](metrics::Registry::Families& out) {
            DataplaneReport(*loader_).collect(out);
            RuleReport(*loader_, calculator()).collect(out);
            report().collect(out);
        });
    }

    EventLoop& loop_;
    AgentConfig config_;
    UniqueFd node_lock_;
    std::unique_ptr<StatusServer> status_;
    std::unique_ptr<datastore::Store> store_;
    std::unique_ptr<LastGood> last_good_;
    std::optional<loader::Loader> loader_;
    std::unique_ptr<dataplane::PinnedTables> table_writer_;
    std::optional<dataplane::PolicyTables> tables_;
    std::optional<Enforcer> enforcer_;
    std::unique_ptr<dataplane::PacketEvents> events_;
    std::unique_ptr<ipam::Allocator> allocator_;
    Worker warm_up_{"ipam-warm-up"};
    std::unique_ptr<cni::IpamAddresses> addresses_;
    std::unique_ptr<cni::CniServer> cni_;
    std::unique_ptr<dataplane::HostLinks> links_;
    std::unique_ptr<bgp::BgpManager> bgp_;
    std::unique_ptr<NodeWriter> node_writer_;
    std::unique_ptr<TunnelCare> tunnels_;
    std::unique_ptr<Collector> collector_;
    bool judges_to_host_ = false;
    PoolSets pools_;
    MasqueradeCare masquerade_{loop_, pools_, [this] { report_network_state(); }};
    SettingsSource settings_;
    std::optional<Settings> applied_settings_;
    DatastoreLock datastore_lock_;
    std::optional<api::Node> own_node_;
    PolicyNames policy_names_;
    ObjectProblems problems_;
    Unenforced unenforced_;
    bool was_synced_ = false;
    MemoryReturn memory_{loop_};
    std::unique_ptr<Syncer> syncer_; // last: its callbacks use all of the above
};

Agent::Agent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
}

Agent::~Agent() = default;

Result<std::unique_ptr<Agent>> Agent::create(EventLoop& loop, const AgentConfig& config) {
    auto impl = std::make_unique<Impl>(loop, config);
    TRY(impl->start());
    return std::unique_ptr<Agent>(new Agent(std::move(impl)));
}

Result<void> remove_from_node(const AgentConfig& config) {
    TRY(make_folder(config.run_dir));
    TRY_ASSIGN(const UniqueFd lock, lock_node(config));
    TRY(bgp::BirdProcess::end(bird_paths(config)));
    TRY_ASSIGN(auto loader, loader::Loader::open(config.bpffs, load_options(config)));
    TRY(loader.remove_all());
    dataplane::Masquerade masquerade;
    TRY(masquerade.apply({}, {}));
    return dataplane::set_host_guard(false);
}

} // namespace manx::app
