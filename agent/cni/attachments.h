// SPDX-License-Identifier: Apache-2.0
// The attachments of this node and what happens to them: ADD, DEL, CHECK, GC, and what is left
// after a restart. Calls for one interface wait for each other; all others run side by side:
// addresses are taken in batches on one worker, devices are made on a second, annotations are
// written on a third, the Remover takes devices away, and policy is the EndpointSink's.
//
//   ADD   record (adding) -> pod, addresses -> device, both ends down, with programs | policy as
//         new as the pod -> enforce
//         -> ends up, routes | annotations of the pod -> record (ready) -> answer
//   DEL   forget -> device away -> addresses back, annotations -> record away -> answer
//
// What fails in ADD is undone before the error is told. What DEL cannot give back now (datastore
// not there) it keeps as a record and tries again; it answers well all the same.
//
// Threading: all on the loop's thread.
#pragma once

#include "agent/cni/address_source.h"
#include "agent/cni/batch.h"
#include "agent/cni/device.h"
#include "agent/cni/endpoint_sink.h"
#include "agent/cni/pool_view.h"
#include "agent/cni/record.h"
#include "agent/cni/remover.h"
#include "agent/cni/request.h"
#include "agent/cni/workload.h"
#include "agent/datastore/store.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "base/worker.h"

#include <bitset>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace manx::cni {

// What a call comes to: text for standard output, or an error.
using Outcome = tl::expected<std::string, CniError>;
using Answer = std::function<void(Outcome)>;

class Attachments {
public:
    struct Dependencies {
        EventLoop& loop;
        datastore::Store& store;
        AddressSource& addresses;
        EndpointSink& sink;
        // Calls back, on the loop's thread, once the policy that the sink enforces is as new as
        // what has been read from the store until now.
        std::function<void(std::function<void()>)> when_current;
    };

    static Result<std::unique_ptr<Attachments>> open(const Dependencies& with,
                                                     const std::string& state_dir);
    Attachments(const Attachments&) = delete;
    Attachments& operator=(const Attachments&) = delete;
    ~Attachments();

    // From the records: endpoints whose device is there are given to the sink and get their routes
    // back; everything else is undone. Once, before the first call.
    Result<void> restore();

    // netns: the container's namespace; no fd: it does not exist (any more).
    void add(CniRequest request, UniqueFd netns, Answer answer);
    void del(CniRequest request, UniqueFd netns, Answer answer);
    void check(CniRequest request, UniqueFd netns, Answer answer);
    void collect_garbage(const CniRequest& request, Answer answer);

    // MTU of devices whose configuration does not say.
    void set_default_mtu(uint32_t mtu) { default_mtu_ = mtu; }

    [[nodiscard]] PoolView& pools() { return pools_; }

    // attachment_care.cpp: what somebody else did to a workload's device is put right. A route or
    // an address vanished:
    void repair_routes(uint32_t ifindex);
    // Its qdiscs or filters changed: our programs are put back, a shaper gets its packets.
    void check_hooks(uint32_t ifindex);
    void device_state(uint32_t ifindex, bool up);
    void device_gone(uint32_t ifindex);
    // All of them, after events were missed.
    void look_after_all();

    [[nodiscard]] std::vector<dataplane::LocalEndpoint> endpoints() const; // those that are ready
    [[nodiscard]] size_t count(RecordState state) const;

private:
    struct Add;  // an ADD under way
    struct Free; // addresses on their way back
    using AddPtr = std::shared_ptr<Add>;

    Attachments(const Dependencies& with, RecordFolder folder, std::string boot_id,
                netlink::Socket for_devices, netlink::Socket own, std::unique_ptr<Remover> remover);

    // One call at a time per interface.
    void lock(const std::string& interface, std::function<void()> fn);
    void unlock(const std::string& interface);
    // The record that knows the container, as its own or as a superseded one.
    [[nodiscard]] const Record* find(const Attachment& attachment) const;
    [[nodiscard]] std::string interface_of(const CniRequest& request) const;
    // The record that has the container under another CNI_IFNAME as its own or as a superseded one.
    [[nodiscard]] const Record* attached_otherwise(const Attachment& attachment) const;

    // attachment_add.cpp
    void begin_add(const AddPtr& add);
    void repeat_add(const AddPtr& add);
    void make_anew(const AddPtr& add);
    void release_former(const AddPtr& add);
    // Not while the container's own former addresses are still taken: it would have them twice.
    void fresh_unless_held(const AddPtr& add);
    void fresh_add(const AddPtr& add);
    void on_assigned(const AddPtr& add, Result<Workload> workload);
    // What speaks against the addresses.
    [[nodiscard]] std::optional<CniError> objection(const Add& add) const;
    void await_policy(const AddPtr& add);
    // On the address worker or the loop's thread, once.
    void start_device(const AddPtr& add);
    void on_made(const AddPtr& add, Result<DeviceIds> ids);
    void join_add(const AddPtr& add); // addresses and device
    void enforce_if_current(const AddPtr& add);
    void on_enforced(const AddPtr& add, Result<void> enforced);
    void on_part_done(const AddPtr& add, Result<void> part);
    void finish_add(const AddPtr& add);
    void undo_add(const AddPtr& add, CniError error);
    void conclude(const AddPtr& add, Outcome outcome);
    std::optional<uint16_t> take_slot();

    // attachment_del.cpp
    void begin_del(const CniRequest& request, UniqueFd netns, const std::string& interface,
                   std::function<void()> done);
    void del_unknown(const CniRequest& request, UniqueFd netns, const std::string& interface,
                     std::function<void()> done);
    // Forgets the endpoint and removes its device; from here on its state is Releasing. Where the
    // device cannot be removed the record keeps its ifindex, and release_own() does nothing yet.
    void take_down(Record& record, std::function<void()> done);
    void free_addresses(const std::string& network, const std::string& container_id,
                        const std::string& ns, const std::string& pod, bool legacy,
                        std::function<void(Result<void>)> done);
    // Gives back what the record's own container holds, then drops or keeps the record.
    void release_own(const std::string& interface, std::function<void()> done);
    void release_superseded(const std::string& interface, const Superseded& old,
                            std::function<void()> done);
    // All whose DEL has come, until one cannot be given back.
    void release_deleted(const std::string& interface, std::function<void()> done);
    void drop_if_done(const std::string& interface);
    void retry_releases();
    void schedule_retry();

    [[nodiscard]] const Record* find_ready(uint32_t ifindex) const;
    struct HookCheck; // of one device
    void start_check();
    void on_hooks_checked(const HookCheck& check);
    void enforce_again(Record& record);
    void schedule_check();

    // On disk a second later. Callers that can fail undo what they did; the others log.
    Result<void> save(const Record& record);
    void save_or_log(const Record& record);

    [[nodiscard]] std::weak_ptr<bool> alive() const { return alive_; }

    EventLoop& loop_;
    datastore::Store& store_;
    AddressSource& source_;
    EndpointSink& sink_;
    std::function<void(std::function<void()>)> when_current_;
    log::Logger log_;
    RecordFolder folder_;
    std::string boot_id_;
    netlink::Socket device_socket_; // of device_worker_
    netlink::Socket socket_;        // of the loop's thread
    std::unique_ptr<Remover> remover_;
    PoolView pools_;
    uint32_t default_mtu_ = 1500;
    std::map<std::string, Record> records_; // by interface
    std::map<std::string, std::deque<std::function<void()>>> locks_;
    std::bitset<4096> slots_; // taken ones; MANX_SLOTS
    // The last ADD got its addresses: the next one's device need not wait for them. Where they are
    // refused (no pool has any left) there is to be none made for nothing.
    bool addresses_come_ = true;
    EventSource retry_timer_;
    EventSource sync_timer_;
    std::set<std::string> unsynced_; // interfaces whose records were saved since
    EventSource check_timer_;
    std::set<uint32_t> to_check_; // devices; what comes while a check runs is one check
    bool checking_ = false;
    std::set<uint32_t> down_; // devices of ready endpoints that somebody has set down
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

    // Workers go first when the object goes: nothing below uses them, all above outlives them.
    Worker store_worker_{"cni-store"};
    Worker device_worker_{"cni-device"};
    Worker address_worker_{"cni-address"}; // hands on to the former
    Worker sync_worker_{"cni-sync"};       // waits for the disk, which no call does
    std::unique_ptr<Batch<AddPtr>> assigning_;
    std::unique_ptr<Batch<std::shared_ptr<Free>>> freeing_;
};

} // namespace manx::cni
