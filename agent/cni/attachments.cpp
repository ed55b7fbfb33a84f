// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/attachments.h"

#include "agent/api/names.h"
#include "agent/cni/attachments_state.h"
#include "agent/netlink/link.h"
#include "maps/abi/endpoint.h"

#include <algorithm>
#include <utility>

namespace manx::cni {

static_assert(MANX_SLOTS == 4096);

Result<std::unique_ptr<Attachments>> Attachments::open(const Dependencies& with,
                                                       const std::string& state_dir) {
    TRY_ASSIGN(auto folder, RecordFolder::open(state_dir));
    TRY_ASSIGN(auto boot_id, current_boot_id());
    TRY_ASSIGN(auto for_devices, netlink::Socket::open());
    TRY_ASSIGN(auto own, netlink::Socket::open());
    TRY_ASSIGN(auto remover, Remover::create(with.loop));
    return std::unique_ptr<Attachments>(new Attachments(with, std::move(folder), std::move(boot_id),
                                                        std::move(for_devices), std::move(own),
                                                        std::move(remover)));
}

Attachments::Attachments(const Dependencies& with, RecordFolder folder, std::string boot_id,
                         netlink::Socket for_devices, netlink::Socket own,
                         std::unique_ptr<Remover> remover)
    : loop_(with.loop), store_(with.store), source_(with.addresses), sink_(with.sink),
      when_current_(with.when_current), log_(log::get("cni")), folder_(std::move(folder)),
      boot_id_(std::move(boot_id)), device_socket_(std::move(for_devices)), socket_(std::move(own)),
      remover_(std::move(remover)) {
    slots_.set(0); // an empty entry of the slot table looks like slot 0
    assigning_ = std::make_unique<Batch<AddPtr>>(
        loop_, address_worker_,
        [this](std::vector<AddPtr>& adds) {
            std::vector<AssignItem*> items;
            std::vector<AddPtr> asking; // beside items
            for (const AddPtr& add : adds) {
                // Before anything is taken for it.
                if (auto saved = folder_.save(add->record); !saved) {
                    add->assign.result = Unexpected(saved.error());
                    continue;
                }
                add->assign.request = &add->request;
                items.push_back(&add->assign);
                asking.push_back(add);
            }
            assign_workloads(store_, source_, items, [&](size_t i) {
                const AddPtr& add = asking[i];
                add->device.mac = add->assign.result->mac;
                if (add->early) {
                    start_device(add);
                }
            });
        },
        [this](AddPtr& add) { on_assigned(add, std::move(add->assign.result)); });
    freeing_ = std::make_unique<Batch<std::shared_ptr<Free>>>(
        loop_, address_worker_,
        [this](std::vector<std::shared_ptr<Free>>& items) {
            std::vector<std::string> handles;
            for (const auto& item : items) {
                handles.push_back(item->handle);
            }
            for (const auto& item : items) {
                if (!item->legacy_handle.empty()) {
                    handles.push_back(item->legacy_handle);
                }
            }
            auto results = source_.release(handles);
            for (size_t i = 0; i < items.size(); ++i) {
                Free& item = *items[i];
                item.result = std::move(results[i]);
                if (item.pod.empty()) {
                    continue;
                }
                auto done = withdraw_addresses(store_, item.ns, item.pod, item.container_id);
                if (done) {
                    continue;
                }
                log_->warn("annotations of the pod were not taken back: {} pod={}/{}",
                           done.error().text(), item.ns, item.pod);
                // Others take them for the pod's addresses, which may be another's by then: once
                // the datastore is there again they go. Other errors would not pass by waiting.
                if (item.result && (done.error().kind == ErrorKind::Unavailable ||
                                    done.error().kind == ErrorKind::Conflict)) {
                    item.result = Unexpected(done.error().within("annotations of the pod"));
                }
            }
        },
        [](std::shared_ptr<Free>& item) { item->done(std::move(item->result)); });
}

Attachments::~Attachments() = default;

void Attachments::lock(const std::string& interface, std::function<void()> fn) {
    const auto [it, free] = locks_.try_emplace(interface);
    if (free) {
        fn();
    } else {
        it->second.push_back(std::move(fn));
    }
}

void Attachments::unlock(const std::string& interface) {
    const auto it = locks_.find(interface);
    if (it->second.empty()) {
        locks_.erase(it);
        return;
    }
    auto next = std::move(it->second.front());
    it->second.pop_front();
    next();
}

const Record* Attachments::find(const Attachment& attachment) const {
    for (const auto& [interface, record] : records_) {
        const auto& own = record.endpoint;
        if (own.container_id == attachment.container_id &&
            own.container_interface == attachment.interface) {
            return &record;
        }
        for (const Superseded& old : record.superseded) {
            if (old.container_id == attachment.container_id &&
                old.container_interface == attachment.interface) {
                return &record;
            }
        }
    }
    return nullptr;
}

std::string Attachments::interface_of(const CniRequest& request) const {
    if (const Record* record = find(request.attachment)) {
        return record->endpoint.interface;
    }
    // Without Kubernetes the container and its interface are the workload.
    return request.is_kubernetes() ? api::workload_interface(request.ns, request.pod)
                                   : api::workload_interface(request.attachment.container_id,
                                                             request.attachment.interface);
}

const Record* Attachments::attached_otherwise(const Attachment& attachment) const {
    const auto differs = [&](const auto& known) {
        return known.container_id == attachment.container_id &&
               known.container_interface != attachment.interface;
    };
    for (const auto& [interface, record] : records_) {
        if (differs(record.endpoint) ||
            std::any_of(record.superseded.begin(), record.superseded.end(), differs)) {
            return &record;
        }
    }
    return nullptr;
}

Result<void> Attachments::save(const Record& record) {
    TRY(folder_.save(record));
    unsynced_.insert(record.endpoint.interface);
    if (!sync_timer_) {
        auto timer = loop_.add_timer(std::chrono::seconds(1), [this] {
            sync_timer_ = {};
            sync_worker_.post([this, interfaces = std::exchange(unsynced_, {})] {
                if (auto synced = folder_.sync(interfaces); !synced) {
                    log_->warn("state of endpoints is not on disk: {}", synced.error().text());
                }
            });
        });
        if (timer) {
            sync_timer_ = std::move(*timer);
        }
    }
    return {};
}

void Attachments::save_or_log(const Record& record) {
    if (auto saved = save(record); !saved) {
        log_->error("state of an endpoint could not be written: {}", saved.error().text());
    }
}

Result<void> Attachments::restore() {
    std::vector<Error> broken;
    TRY_ASSIGN(auto records, folder_.load(broken));
    for (const Error& error : broken) {
        log_->error("state of an endpoint is not understood and set aside: {}", error.text());
    }
    TRY_ASSIGN(const auto links, list_links(socket_));
    std::map<std::string, uint32_t> present;
    for (const auto& link : links) {
        present[link.name] = link.ifindex;
    }
    size_t restored = 0;
    size_t leftovers = 0;
    for (Record& loaded : records) {
        const std::string interface = loaded.endpoint.interface;
        Record& record = records_[interface] = std::move(loaded);
        const auto link = present.find(interface);
        const bool named = record.boot_id == boot_id_ && link != present.end();
        const bool there = named && link->second == record.endpoint.ifindex;
        if (record.state == RecordState::Ready && there) {
            ++restored;
            slots_.set(record.endpoint.slot);
            sink_.enforce(record.endpoint, [log = log_, interface](Result<void> done) {
                if (!done) {
                    log->error("endpoint is not enforced: {} interface={}", done.error().text(),
                               interface);
                }
            });
            repair_routes(record.endpoint.ifindex);
            lock(interface, [this, interface] { // former sandboxes whose DEL was not ended
                release_deleted(interface, [this, interface] { unlock(interface); });
            });
            continue;
        }
        // An ADD that was not finished, a DEL that could not give everything back, or a pod that
        // the last boot of the machine took away.
        ++leftovers;
        record.endpoint.slot = 0; // it may be another one's by now
        if (record.boot_id != boot_id_) {
            for (Superseded& old : record.superseded) { // no container outlives its kernel
                old.deleted = true;
            }
        }
        if (there || (named && record.state == RecordState::Adding)) {
            record.endpoint.ifindex = link->second;
        } else { // nothing to take down; a device of that name is somebody else's
            record.endpoint.ifindex = 0;
            record.state = RecordState::Releasing;
        }
        lock(interface, [this, interface] {
            take_down(records_.at(interface), [this, interface] {
                release_own(interface, [this, interface] {
                    release_deleted(interface, [this, interface] { unlock(interface); });
                });
            });
        });
    }
    if (restored + leftovers > 0) {
        log_->info("endpoints restored count={} leftovers={}", restored, leftovers);
    }
    return {};
}

std::vector<dataplane::LocalEndpoint> Attachments::endpoints() const {
    std::vector<dataplane::LocalEndpoint> out;
    for (const auto& [interface, record] : records_) {
        if (record.state == RecordState::Ready) {
            out.push_back(record.endpoint);
        }
    }
    return out;
}

size_t Attachments::count(RecordState state) const {
    return static_cast<size_t>(std::count_if(
        records_.begin(), records_.end(), [=](const auto& r) { return r.second.state == state; }));
}

void Attachments::check(CniRequest request, UniqueFd netns, Answer answer) {
    const Record* known = find(request.attachment);
    if (known == nullptr || known->state != RecordState::Ready ||
        known->endpoint.container_id != request.attachment.container_id) {
        answer(tl::unexpected(CniError{Code::UnknownContainer,
                                       "container " + request.attachment.text() +
                                           " is not attached to network " + request.conf.name,
                                       {}}));
        return;
    }
    if (!request.conf.previous) {
        answer(tl::unexpected(
            CniError{Code::InvalidConfig, "network configuration: CHECK needs prevResult", {}}));
        return;
    }
    const Record record = *known;
    for (const IpAddress& address : record.endpoint.addresses) {
        const auto& ips = request.conf.previous->ips;
        if (std::none_of(ips.begin(), ips.end(),
                         [&](const auto& ip) { return ip.address.address == address; })) {
            answer(tl::unexpected(
                CniError{Code::CheckFailed, "prevResult lacks the address " + address.text(), {}}));
            return;
        }
    }
    auto shared_netns = std::make_shared<UniqueFd>(std::move(netns));
    device_worker_.post([this, record, shared_netns, alive = alive(), answer = std::move(answer),
                         &loop = loop_] {
        const auto& endpoint = record.endpoint;
        auto found = inspect_device(device_socket_, endpoint, record.mtu, shared_netns->get());
        if (found) {
            for (const auto& name :
                 sink_.missing_programs(endpoint.ifindex).value_or(std::vector<std::string>{})) {
                found->push_back(endpoint.interface + " lacks the program " + name);
            }
            (void)keep_programs(sink_, endpoint); // the difference is told all the same
        }
        loop.post([found = std::move(found), answer, alive] {
            if (alive.expired()) {
                return;
            }
            if (!found) {
                answer(tl::unexpected(to_cni_error(found.error())));
            } else if (!found->empty()) {
                std::string all;
                for (const std::string& difference : *found) {
                    all += (all.empty() ? "" : "; ") + difference;
                }
                answer(tl::unexpected(CniError{Code::CheckFailed, all, {}}));
            } else {
                answer(std::string{});
            }
        });
    });
}

} // namespace manx::cni
