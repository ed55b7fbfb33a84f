// SPDX-License-Identifier: Apache-2.0
// What others do to the devices of ready endpoints, and what is done about it; see attachments.h.
#include "agent/cni/attachments.h"
#include "agent/cni/attachments_state.h"
#include "agent/netlink/address.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace manx::cni {

namespace {

// A link that is taken off a device announces itself by no event.
constexpr auto kCheckInterval = std::chrono::seconds(30);
constexpr auto kRetryInterval = std::chrono::seconds(1);

bool is_gone(const Error& error) {
    return error.kind == ErrorKind::NotFound || error.err == ENODEV;
}

} // namespace

Result<void> keep_programs(EndpointSink& sink, const dataplane::LocalEndpoint& endpoint) {
    TRY_ASSIGN(const auto missing, sink.missing_programs(endpoint.ifindex));
    if (missing.empty()) {
        return {};
    }
    TRY(sink.prepare(endpoint.ifindex));
    for (const std::string& name : missing) {
        log::get("cni")->warn("program was not on its device and is again interface={} program={}",
                              endpoint.interface, name);
    }
    return {};
}

const Record* Attachments::find_ready(uint32_t ifindex) const {
    const auto it = std::ranges::find_if(records_, [&](const auto& entry) {
        return entry.second.state == RecordState::Ready && entry.second.endpoint.ifindex == ifindex;
    });
    return it == records_.end() ? nullptr : &it->second;
}

void Attachments::repair_routes(uint32_t ifindex) {
    const Record* record = find_ready(ifindex);
    if (record == nullptr) {
        return;
    }
    device_worker_.post([this, endpoint = record->endpoint] {
        auto requests = host_routes(endpoint.ifindex, endpoint.addresses);
        if (std::ranges::any_of(endpoint.addresses, [](const auto& a) { return !a.is_v4(); })) {
            requests.push_back(
                netlink::add_address(endpoint.ifindex, {host_gateway(Family::V6), 64}));
        }
        for (auto& request : requests) {
            // Going: its DEL takes the rest away. Or down: they come when it is up.
            request.tolerate({ENODEV, ENETDOWN});
        }
        if (auto done = device_socket_.send(requests); !done) {
            log_->error("routes of an endpoint could not be written: {} interface={}",
                        done.error().text(), endpoint.interface);
        }
    });
}

struct Attachments::HookCheck {
    dataplane::LocalEndpoint endpoint;
    Shaping shaping;
    Result<void> result;
};

void Attachments::check_hooks(uint32_t ifindex) {
    to_check_.insert(ifindex);
    start_check();
}

void Attachments::start_check() {
    auto checks = std::make_shared<std::vector<HookCheck>>();
    if (checking_) {
        return;
    }
    for (const uint32_t ifindex : std::exchange(to_check_, {})) {
        if (const Record* record = find_ready(ifindex)) {
            checks->push_back({record->endpoint, {}, {}});
        }
    }
    if (checks->empty()) {
        return;
    }
    checking_ = true;
    device_worker_.post([this, checks, alive = alive(), &loop = loop_] {
        const auto shaping = list_shaping(device_socket_);
        for (HookCheck& check : *checks) {
            if (!shaping) {
                check.result = Unexpected(shaping.error());
            } else if (const auto it = shaping->find(check.endpoint.ifindex);
                       it != shaping->end()) {
                check.shaping = it->second;
            }
            if (auto kept = keep_programs(sink_, check.endpoint); !kept) {
                check.result = kept;
            }
        }
        loop.post([this, alive, checks] {
            if (alive.expired()) {
                return;
            }
            checking_ = false;
            start_check();
            for (const HookCheck& check : *checks) {
                on_hooks_checked(check);
            }
        });
    });
}

void Attachments::on_hooks_checked(const HookCheck& check) {
    const Record* ready = find_ready(check.endpoint.ifindex);
    if (ready == nullptr || (!check.result && is_gone(check.result.error()))) {
        return;
    }
    if (!check.result) {
        log_->error("a workload's device could not be looked after, again in a second: {} "
                    "interface={}",
                    check.result.error().text(), check.endpoint.interface);
        if (auto timer = loop_.add_timer(kRetryInterval, [this] {
                check_timer_ = {};
                look_after_all();
            })) {
            check_timer_ = std::move(*timer);
        }
        return;
    }
    const Shaping* found = &check.shaping;
    Record& record = records_.at(ready->endpoint.interface);
    auto& endpoint = record.endpoint;
    if (endpoint.redirect_host == found->to_pod && endpoint.by_stack == found->from_pod) {
        return;
    }
    endpoint.redirect_host = found->to_pod;
    endpoint.by_stack = found->from_pod;
    log_->info("shaping of an endpoint changed interface={} to_pod={} from_pod={}",
               endpoint.interface, found->to_pod, found->from_pod);
    save_or_log(record);
    enforce_again(record);
}

void Attachments::enforce_again(Record& record) {
    sink_.enforce(
        record.endpoint, [log = log_, name = record.endpoint.interface](Result<void> done) {
            if (!done) {
                log->error("endpoint is not enforced: {} interface={}", done.error().text(), name);
            }
        });
}

void Attachments::device_state(uint32_t ifindex, bool up) {
    if (up ? down_.erase(ifindex) == 0 : find_ready(ifindex) == nullptr) {
        return;
    }
    if (!up) {
        down_.insert(ifindex);
        return;
    }
    repair_routes(ifindex); // the kernel took them when it went down
}

void Attachments::device_gone(uint32_t ifindex) {
    down_.erase(ifindex);
    device_worker_.post([this, ifindex] { sink_.clean_up(ifindex); });
}

void Attachments::look_after_all() {
    std::vector<uint32_t> devices;
    for (const auto& [interface, record] : records_) {
        if (record.state == RecordState::Ready) {
            devices.push_back(record.endpoint.ifindex);
        }
    }
    to_check_.insert(devices.begin(), devices.end());
    start_check();
    schedule_check();
}

void Attachments::schedule_check() {
    if (check_timer_) {
        return;
    }
    auto timer = loop_.add_timer(kCheckInterval, [this] {
        check_timer_ = {};
        look_after_all();
    });
    if (timer) {
        check_timer_ = std::move(*timer);
    }
}

} // namespace manx::cni
