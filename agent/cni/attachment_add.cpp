// SPDX-License-Identifier: Apache-2.0
// ADD, step by step; see attachments.h.
#include "agent/cni/attachments.h"
#include "agent/cni/attachments_state.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace manx::cni {

namespace {

std::string render(const CniRequest& request, const Record& record) {
    const auto& endpoint = record.endpoint;
    AddResult own;
    own.interfaces.push_back({endpoint.interface, endpoint.host_mac.text(), record.mtu, {}});
    own.interfaces.push_back(
        {endpoint.container_interface, endpoint.mac.text(), record.mtu, request.netns});
    for (const IpAddress& address : endpoint.addresses) {
        own.ips.push_back({{address, address.bits()}, {}, 1});
    }
    if (request.conf.previous) {
        own = append(*request.conf.previous, std::move(own));
    }
    return render_result(request.conf.version, own);
}

// Policy is milliseconds behind, as a rule.
constexpr auto kPolicyDeadline = std::chrono::seconds(5);

Outcome held_yet() {
    return tl::unexpected(CniError{
        Code::TryAgainLater, "the addresses that the container had cannot be given back yet", {}});
}

} // namespace

void Attachments::add(CniRequest request, UniqueFd netns, Answer answer) {
    auto add = std::make_shared<Add>();
    add->request = std::move(request);
    add->netns = std::move(netns);
    add->answer = std::move(answer);
    add->interface = interface_of(add->request);
    lock(add->interface, [this, add] { begin_add(add); });
}

void Attachments::conclude(const AddPtr& add, Outcome outcome) {
    add->answer(std::move(outcome));
    unlock(add->interface);
}

void Attachments::begin_add(const AddPtr& add) {
    // Before anything of an earlier attachment is touched.
    if (!add->netns) {
        conclude(add, tl::unexpected(CniError{Code::InvalidEnvironment,
                                              "CNI_NETNS: " + add->request.netns +
                                                  " is not a network namespace",
                                              {}}));
        return;
    }
    const Attachment& attachment = add->request.attachment;
    if (const Record* other = attached_otherwise(attachment);
        other != nullptr && other->endpoint.container_id == attachment.container_id) {
        if (other->state != RecordState::Releasing) {
            conclude(add,
                     tl::unexpected(CniError{Code::InvalidEnvironment,
                                             "CNI_IFNAME: the container is attached already, as " +
                                                 other->endpoint.container_interface +
                                                 ": a pod has one interface here",
                                             {}}));
            return;
        }
        if (other->endpoint.interface != add->interface) { // they share the handle of IPAM
            conclude(add, held_yet());
            return;
        }
    }
    const auto existing = records_.find(add->interface);
    if (existing == records_.end()) {
        fresh_add(add);
        return;
    }
    Record& old = existing->second;
    const bool same_container = old.endpoint.container_id == attachment.container_id;
    if (same_container && old.state == RecordState::Ready) {
        repeat_add(add);
        return;
    }
    if (same_container) {
        make_anew(add);
        return;
    }
    // A newer sandbox of the same pod: it takes the device's name over. The addresses of the old
    // one are given back by its own DEL.
    const bool deleted = old.state == RecordState::Releasing;
    take_down(old, [this, add, deleted] {
        Record& last = records_.at(add->interface);
        if (last.endpoint.ifindex != 0) {
            release_own(add->interface, [this, add] {
                conclude(add, tl::unexpected(CniError{
                                  Code::TryAgainLater,
                                  "the device of the pod's former sandbox cannot be removed yet",
                                  {}}));
            });
            return;
        }
        if (!last.endpoint.container_id.empty()) {
            last.superseded.push_back({last.network, last.endpoint.container_id,
                                       last.endpoint.container_interface, deleted});
        }
        last.endpoint.container_id.clear();
        release_former(add);
    });
}

// The container's attachment is not what it should be.
void Attachments::make_anew(const AddPtr& add) {
    take_down(records_.at(add->interface), [this, add] {
        release_own(add->interface, [this, add] { fresh_unless_held(add); });
    });
}

// The container may be one whose device a newer one had taken over; its addresses go first.
void Attachments::release_former(const AddPtr& add) {
    const auto& all = records_.at(add->interface).superseded;
    const auto former = std::find_if(all.begin(), all.end(), [&](const Superseded& old) {
        return old.container_id == add->request.attachment.container_id;
    });
    if (former == all.end()) {
        fresh_add(add);
        return;
    }
    const Superseded old = *former;
    release_superseded(add->interface, old, [this, add] { fresh_unless_held(add); });
}

void Attachments::fresh_unless_held(const AddPtr& add) {
    const auto& id = add->request.attachment.container_id;
    if (const auto it = records_.find(add->interface); it != records_.end()) {
        const auto& all = it->second.superseded;
        if (it->second.endpoint.container_id == id ||
            std::any_of(all.begin(), all.end(),
                        [&](const auto& s) { return s.container_id == id; })) {
            conclude(add, held_yet());
            return;
        }
    }
    fresh_add(add);
}

// The same container again: the same answer, if everything is still there.
void Attachments::repeat_add(const AddPtr& add) {
    const Record record = records_.at(add->interface);
    device_worker_.post([this, add, record, alive = alive(), &loop = loop_] {
        auto found = inspect_device(device_socket_, record.endpoint, record.mtu, add->netns.get());
        if (auto prepared = keep_programs(sink_, record.endpoint); !prepared) {
            found = Unexpected(prepared.error());
        }
        loop.post([this, add, alive, found = std::move(found)] {
            if (alive.expired()) {
                return;
            }
            if (found && found->empty()) {
                add->repeated = true;
                sink_.enforce(records_.at(add->interface).endpoint,
                              [this, add, alive](Result<void> done) {
                                  if (!alive.expired()) {
                                      on_enforced(add, std::move(done));
                                  }
                              });
                return;
            }
            make_anew(add);
        });
    });
}

std::optional<uint16_t> Attachments::take_slot() {
    for (size_t i = 0; i < slots_.size(); ++i) {
        if (!slots_.test(i)) {
            slots_.set(i);
            return static_cast<uint16_t>(i);
        }
    }
    return std::nullopt;
}

void Attachments::fresh_add(const AddPtr& add) {
    const CniRequest& request = add->request;
    Record record;
    record.network = request.conf.name;
    record.boot_id = boot_id_;
    record.mtu = request.conf.mtu != 0 ? request.conf.mtu : default_mtu_;
    record.endpoint.ns = request.ns;
    record.endpoint.pod = request.pod;
    record.endpoint.container_id = request.attachment.container_id;
    record.endpoint.container_interface = request.attachment.interface;
    record.endpoint.interface = add->interface;
    record.endpoint.netns = request.netns;
    record.endpoint.host_mac = kHostMac;
    if (const auto old = records_.find(add->interface); old != records_.end()) {
        record.superseded = std::move(old->second.superseded);
    }
    const auto slot = take_slot();
    if (slot) {
        record.endpoint.slot = *slot;
    }
    add->record = record;
    records_[add->interface] = std::move(record);
    if (!slot) {
        undo_add(add, {Code::TryAgainLater,
                       "this node has the most workloads that it can have (" +
                           std::to_string(slots_.size() - 1) + ")",
                       {}});
        return;
    }
    add->device.host_name = add->interface;
    add->device.container_name = add->record.endpoint.container_interface;
    add->device.netns = add->netns.get();
    add->device.mtu = add->record.mtu;
    add->device.allow_ip_forwarding = request.conf.allow_ip_forwarding;
    add->early = addresses_come_;
    // Calico's plugin gives IPv4 unless told otherwise, and IPv6 only when told to.
    add->assign.offers =
        request.conf.type == "calico" ? std::vector{PoolOffer{Family::V4, {}}} : pools_.offers();
    assigning_->push(add);
}

// The pod is known. Both ends of the device stay down until the endpoint is enforced, so it needs
// no address yet.
void Attachments::start_device(const AddPtr& add) {
    add->making = true;
    device_worker_.post([this, add, alive = alive(), &loop = loop_] {
        auto ids = make_device(device_socket_, add->device);
        if (ids) {
            if (auto prepared = sink_.prepare(ids->host_ifindex); !prepared) {
                ids = Unexpected(prepared.error().within("device " + add->interface));
            }
        }
        loop.post([this, add, alive, ids = std::move(ids)]() mutable {
            if (!alive.expired()) {
                on_made(add, std::move(ids));
            }
        });
    });
}

void Attachments::on_assigned(const AddPtr& add, Result<Workload> workload) {
    add->assigning = false;
    addresses_come_ = workload.has_value();
    auto problem = workload ? std::nullopt : std::optional(to_cni_error(workload.error()));
    if (workload) {
        add->workload = std::move(*workload);
        problem = objection(*add);
    }
    if (problem) {
        add->problem = std::move(problem);
        join_add(add);
        return;
    }
    auto& endpoint = add->record.endpoint;
    endpoint.addresses = add->workload.addresses;
    endpoint.labels = std::move(add->workload.labels);
    endpoint.service_account = std::move(add->workload.service_account);
    endpoint.named_ports = std::move(add->workload.named_ports);
    records_[add->interface] = add->record; // its addresses are known to others from here on
    await_policy(add);
    if (!add->early) {
        start_device(add);
    }
    join_add(add);
}

std::optional<CniError> Attachments::objection(const Add& add) const {
    const auto& addresses = add.workload.addresses;
    const bool with_v6 = std::any_of(addresses.begin(), addresses.end(),
                                     [](const IpAddress& address) { return !address.is_v4(); });
    if (with_v6 && add.record.mtu < kMinMtuWithIpv6) {
        const std::string which =
            add.request.conf.mtu != 0
                ? "network configuration: mtu"
                : "the agent's MTU, " + std::to_string(add.record.mtu) + ", for this pod";
        return CniError{Code::InvalidConfig, which + ": expected at least 1280 with IPv6", {}};
    }
    // IPAM gives an address once, but not all come from it.
    for (const auto& [interface, record] : records_) {
        const auto& other = record.endpoint;
        if (interface == add.interface ||
            (record.state == RecordState::Releasing && other.ifindex == 0)) {
            continue;
        }
        for (const IpAddress& address : addresses) {
            if (std::find(other.addresses.begin(), other.addresses.end(), address) !=
                other.addresses.end()) {
                return CniError{Code::TryAgainLater,
                                address.text() + " is the address of " + interface + " (pod " +
                                    other.ns + "/" + other.pod + ") already",
                                {}};
            }
        }
    }
    return std::nullopt;
}

void Attachments::on_made(const AddPtr& add, Result<DeviceIds> ids) {
    add->making = false;
    if (ids) {
        add->ids = *ids;
        add->record.endpoint.ifindex = ids->host_ifindex;
        add->record.endpoint.mac = ids->container_mac;
        records_[add->interface] = add->record;
    } else if (!add->problem) {
        add->problem =
            ids.error().kind == ErrorKind::AlreadyExists
                ? CniError{Code::InvalidEnvironment, "CNI_IFNAME: " + ids.error().text(), {}}
                : to_cni_error(ids.error());
    }
    join_add(add);
}

void Attachments::join_add(const AddPtr& add) {
    if (add->making || add->assigning) {
        return;
    }
    if (add->problem) {
        undo_add(add, *add->problem);
        return;
    }
    add->made = true;
    enforce_if_current(add);
}

// The pod was read from the store; the sink knows what its watch has brought. A policy that was
// there before the pod is in force before the pod is up.
void Attachments::await_policy(const AddPtr& add) {
    using Policy = Add::Policy;
    if (!when_current_) {
        add->policy = Policy::Current;
        return;
    }
    const auto settle = [this, add, alive = alive()](Policy policy) {
        if (alive.expired() || add->policy != Policy::Behind) {
            return;
        }
        add->policy = policy;
        add->patience = {};
        enforce_if_current(add);
    };
    auto timer = loop_.add_timer(kPolicyDeadline, [settle] { settle(Policy::TooLate); });
    if (timer) {
        add->patience = std::move(*timer);
    }
    when_current_([settle] { settle(Policy::Current); });
}

void Attachments::enforce_if_current(const AddPtr& add) {
    if (!add->made || add->policy == Add::Policy::Behind) {
        return;
    }
    if (add->policy == Add::Policy::TooLate) {
        undo_add(add,
                 {Code::TryAgainLater,
                  "the policy in force on this node is older than the pod and does not catch up",
                  {}});
        return;
    }
    const auto& endpoint = add->record.endpoint;
    add->enforced = true; // from here on there is something to forget
    sink_.enforce(endpoint, [this, add, alive = alive()](Result<void> done) {
        if (!alive.expired()) {
            on_enforced(add, std::move(done));
        }
    });
}

void Attachments::on_enforced(const AddPtr& add, Result<void> enforced) {
    if (add->repeated) {
        conclude(add, enforced ? Outcome(render(add->request, records_.at(add->interface)))
                               : tl::unexpected(to_cni_error(enforced.error())));
        return;
    }
    if (!enforced) {
        undo_add(add, to_cni_error(enforced.error().within("enforce " + add->interface)));
        return;
    }
    add->parts = 2;
    device_worker_.post([this, add, alive = alive(), &loop = loop_] {
        auto done =
            connect_device(device_socket_, add->device, add->ids, add->record.endpoint.addresses);
        loop.post([this, add, alive, done = std::move(done)]() mutable {
            if (!alive.expired()) {
                on_part_done(add, std::move(done));
            }
        });
    });
    store_worker_.post([this, add, alive = alive(), &loop = loop_] {
        auto done = announce_addresses(store_, add->request, add->workload);
        loop.post([this, add, alive, done = std::move(done)]() mutable {
            if (!alive.expired()) {
                on_part_done(add, std::move(done));
            }
        });
    });
}

void Attachments::on_part_done(const AddPtr& add, Result<void> part) {
    if (!part && !add->problem) {
        add->problem = to_cni_error(part.error());
    }
    if (--add->parts > 0) {
        return;
    }
    if (add->problem) {
        undo_add(add, *add->problem);
        return;
    }
    finish_add(add);
}

void Attachments::finish_add(const AddPtr& add) {
    add->record.state = RecordState::Ready;
    Record& record = records_[add->interface] = add->record;
    if (auto saved = save(record); !saved) {
        // The next start would take it for an ADD that was not finished, and the pod's network
        // away.
        undo_add(add, to_cni_error(saved.error().within("state of the endpoint")));
        return;
    }
    if (!record.superseded.empty()) {
        schedule_retry();
    }
    log_->debug("endpoint added interface={} container={}", add->interface,
                add->request.attachment.container_id);
    conclude(add, render(add->request, records_.at(add->interface)));
}

void Attachments::undo_add(const AddPtr& add, CniError error) {
    log_->warn("ADD failed: {} code={} container={} pod={}/{}", error.message,
               static_cast<int>(error.code), add->request.attachment.container_id, add->request.ns,
               add->request.pod);
    take_down(records_.at(add->interface), [this, add, error = std::move(error)] {
        release_own(add->interface, [this, add, error] { conclude(add, tl::unexpected(error)); });
    });
}

} // namespace manx::cni
