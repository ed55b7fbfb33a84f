// SPDX-License-Identifier: Apache-2.0
// DEL and GC, and what is given back later; see attachments.h.
#include "agent/cni/attachments.h"
#include "agent/cni/attachments_state.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace manx::cni {

namespace {

constexpr auto kRetryInterval = std::chrono::seconds(5);

// Whatever its network is called by now: the name in the container is one network's alone.
bool is_of(const auto& known, const Attachment& attachment) {
    return known.container_id == attachment.container_id &&
           known.container_interface == attachment.interface;
}

} // namespace

void Attachments::del(CniRequest request, UniqueFd netns, Answer answer) {
    const std::string interface = interface_of(request);
    auto shared_netns = std::make_shared<UniqueFd>(std::move(netns));
    lock(interface,
         [this, request = std::move(request), shared_netns, interface, answer = std::move(answer)] {
             begin_del(request, std::move(*shared_netns), interface, [this, interface, answer] {
                 answer(std::string{});
                 unlock(interface);
             });
         });
}

void Attachments::begin_del(const CniRequest& request, UniqueFd netns, const std::string& interface,
                            std::function<void()> done) {
    const auto it = records_.find(interface);
    const Attachment& attachment = request.attachment;
    if (it != records_.end()) {
        Record& record = it->second;
        if (is_of(record.endpoint, attachment)) {
            take_down(record, [this, interface, done = std::move(done)]() mutable {
                release_own(interface, std::move(done));
            });
            return;
        }
        for (const Superseded& old : record.superseded) {
            if (is_of(old, attachment)) {
                release_superseded(interface, old, std::move(done));
                return;
            }
        }
    }
    if (attached_otherwise(attachment) != nullptr) {
        // After an ADD that was refused, since the container has its one interface: that one stays,
        // and with it the handle that its addresses have.
        done();
        return;
    }
    del_unknown(request, std::move(netns), interface, std::move(done));
}

// Nothing is recorded of the container: made by Calico's plugin, deleted before, or never added.
void Attachments::del_unknown(const CniRequest& request, UniqueFd netns,
                              const std::string& interface, std::function<void()> done) {
    auto after_device = [this, request, interface, done = std::move(done)] {
        free_addresses(request.conf.name, request.attachment.container_id, request.ns, request.pod,
                       true, [this, request, interface, done](Result<void> freed) {
                           if (!freed) {
                               // Remembered beside whatever else there is for the interface.
                               auto [it, created] = records_.try_emplace(interface);
                               if (created) {
                                   it->second.state = RecordState::Releasing;
                                   it->second.boot_id = boot_id_;
                                   it->second.endpoint.interface = interface;
                                   it->second.endpoint.ns = request.ns;
                                   it->second.endpoint.pod = request.pod;
                               }
                               it->second.superseded.push_back(
                                   {request.conf.name, request.attachment.container_id,
                                    request.attachment.interface, true});
                               save_or_log(it->second);
                               schedule_retry();
                           }
                           done();
                       });
    };
    if (!netns) {
        after_device();
        return;
    }
    const auto& name = request.attachment.interface;
    remover_->remove_by_container(netns.get(), name, [this, after_device, name](const auto& gone) {
        if (!gone) {
            log_->error("device could not be removed: {} interface={}", gone.error().text(), name);
        }
        after_device();
    });
}

void Attachments::take_down(Record& record, std::function<void()> done) {
    const auto& endpoint = record.endpoint;
    if (endpoint.ifindex == 0 && record.state == RecordState::Releasing) {
        done();
        return;
    }
    record.state = RecordState::Releasing; // from here on nothing of it is repaired
    sink_.forget(endpoint.interface);
    remover_->remove(
        endpoint.interface, endpoint.ifindex,
        [this, interface = endpoint.interface, done = std::move(done)](const Result<void>& gone) {
            Record& record_now = records_.at(interface);
            if (!gone) {
                log_->error("device could not be removed: {} interface={}", gone.error().text(),
                            interface);
                if (record_now.endpoint.ifindex != 0) {
                    done();
                    return;
                }
            }
            slots_.reset(record_now.endpoint.slot);
            slots_.set(0);
            record_now.endpoint.slot = 0;
            record_now.endpoint.ifindex = 0;
            done();
        });
}

void Attachments::free_addresses(const std::string& network, const std::string& container_id,
                                 const std::string& ns, const std::string& pod, bool legacy,
                                 std::function<void(Result<void>)> done) {
    auto item = std::make_shared<Free>();
    item->handle = ipam_handle(network, container_id);
    if (legacy && !pod.empty()) {
        item->legacy_handle = ns + "." + pod;
    }
    item->ns = ns;
    item->pod = pod;
    item->container_id = container_id;
    item->done = std::move(done);
    freeing_->push(std::move(item));
}

void Attachments::release_own(const std::string& interface, std::function<void()> done) {
    Record& record = records_.at(interface);
    record.state = RecordState::Releasing;
    if (record.endpoint.ifindex != 0) { // its addresses are those of a device that is there
        save_or_log(record);
        schedule_retry();
        done();
        return;
    }
    if (record.endpoint.container_id.empty()) {
        drop_if_done(interface);
        done();
        return;
    }
    free_addresses(record.network, record.endpoint.container_id, record.endpoint.ns,
                   record.endpoint.pod, false,
                   [this, interface, done = std::move(done)](Result<void> freed) {
                       Record& own = records_.at(interface);
                       if (freed) {
                           own.endpoint.container_id.clear();
                       } else {
                           log_->warn("addresses are given back later: {} interface={} "
                                      "container={}",
                                      freed.error().text(), interface, own.endpoint.container_id);
                       }
                       drop_if_done(interface);
                       done();
                   });
}

void Attachments::release_superseded(const std::string& interface, const Superseded& old,
                                     std::function<void()> done) {
    Record& now = records_.at(interface);
    const auto entry = [id = old.container_id](Record& record) {
        auto& all = record.superseded;
        return std::find_if(all.begin(), all.end(),
                            [&](const Superseded& s) { return s.container_id == id; });
    };
    // Written before anything is given back, so that a start after a kill ends what was begun.
    if (const auto it = entry(now); it != now.superseded.end() && !it->deleted) {
        it->deleted = true;
        save_or_log(now);
    }
    // The pod's annotations are this container's where no newer one came as far as writing them.
    free_addresses(old.network, old.container_id, now.endpoint.ns, now.endpoint.pod, false,
                   [this, interface, entry, id = old.container_id,
                    done = std::move(done)](Result<void> freed) {
                       Record& record = records_.at(interface);
                       const auto it = entry(record);
                       if (it != record.superseded.end() && freed) {
                           record.superseded.erase(it);
                       } else if (it != record.superseded.end()) {
                           log_->warn("addresses are given back later: {} interface={} "
                                      "container={}",
                                      freed.error().text(), interface, id);
                       }
                       drop_if_done(interface);
                       done();
                   });
}

void Attachments::release_deleted(const std::string& interface, std::function<void()> done) {
    const auto it = records_.find(interface);
    if (it == records_.end()) {
        done();
        return;
    }
    const auto& all = it->second.superseded;
    const auto old = std::find_if(all.begin(), all.end(), [](const auto& s) { return s.deleted; });
    if (old == all.end()) {
        done();
        return;
    }
    release_superseded(interface, *old,
                       [this, interface, before = all.size(), done = std::move(done)]() mutable {
                           const auto now = records_.find(interface);
                           if (now != records_.end() && now->second.superseded.size() < before) {
                               release_deleted(interface, std::move(done));
                           } else {
                               done();
                           }
                       });
}

// A record whose container is gone stays for as long as it names something to give back.
void Attachments::drop_if_done(const std::string& interface) {
    const auto it = records_.find(interface);
    Record& record = it->second;
    const bool own =
        record.state != RecordState::Releasing || !record.endpoint.container_id.empty();
    if (own || !record.superseded.empty()) {
        save_or_log(record);
        schedule_retry();
        return;
    }
    if (auto removed = folder_.remove(interface); !removed) {
        log_->error("state of an endpoint could not be removed: {}", removed.error().text());
    }
    records_.erase(it);
}

void Attachments::schedule_retry() {
    const bool needed = std::any_of(records_.begin(), records_.end(), [](const auto& entry) {
        const Record& record = entry.second;
        return (record.state == RecordState::Releasing && !record.endpoint.container_id.empty()) ||
               std::any_of(record.superseded.begin(), record.superseded.end(),
                           [](const auto& s) { return s.deleted; });
    });
    if (!needed || retry_timer_) {
        return;
    }
    auto timer = loop_.add_timer(kRetryInterval, [this] {
        retry_timer_ = {};
        retry_releases();
    });
    if (timer) {
        retry_timer_ = std::move(*timer);
    }
}

void Attachments::retry_releases() {
    std::vector<std::string> interfaces;
    for (const auto& [interface, record] : records_) {
        interfaces.push_back(interface);
    }
    for (const std::string& interface : interfaces) {
        lock(interface, [this, interface] {
            const auto it = records_.find(interface);
            if (it == records_.end()) {
                unlock(interface);
                return;
            }
            Record& record = it->second;
            auto others = [this, interface] {
                release_deleted(interface, [this, interface] { unlock(interface); });
            };
            if (record.state == RecordState::Releasing && !record.endpoint.container_id.empty()) {
                take_down(record, [this, interface, others] { release_own(interface, others); });
            } else {
                others();
            }
        });
    }
}

void Attachments::collect_garbage(const CniRequest& request, Answer answer) {
    // Calls as DEL would make them, for every attachment of the network that is not valid.
    std::vector<CniRequest> gone;
    const auto consider = [&](const Record& record, const std::string& network,
                              const Attachment& attachment) {
        if (network != request.conf.name || attachment.container_id.empty() ||
            request.conf.valid_attachments.contains(attachment)) {
            return;
        }
        CniRequest call;
        call.command = Command::Del;
        call.attachment = attachment;
        call.ns = record.endpoint.ns;
        call.pod = record.endpoint.pod;
        call.conf.name = network;
        gone.push_back(std::move(call));
    };
    for (const auto& [interface, record] : records_) {
        // An ADD under way is newer than the runtime's list.
        if (record.state != RecordState::Adding) {
            consider(record, record.network,
                     {record.endpoint.container_id, record.endpoint.container_interface});
        }
        for (const Superseded& old : record.superseded) {
            consider(record, old.network, {old.container_id, old.container_interface});
        }
    }
    if (gone.empty()) {
        answer(std::string{});
        return;
    }
    log_->info("GC: attachments that are not valid any more count={} network={}", gone.size(),
               request.conf.name);
    auto open = std::make_shared<size_t>(gone.size());
    for (CniRequest& call : gone) {
        del(std::move(call), {}, [open, answer](const Outcome&) {
            if (--*open == 0) {
                answer(std::string{});
            }
        });
    }
}

} // namespace manx::cni
