// SPDX-License-Identifier: Apache-2.0
#include "agent/app/enforcer.h"

#include "base/log.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <variant>

namespace manx::app {

namespace {

// After a failure. A resync reads all tables, on the loop: not with each event while it fails, but
// soon for who waits.
constexpr std::chrono::seconds kRetry{1};
constexpr std::chrono::seconds kRetryMost{30};

log::Logger logger() {
    return log::get("enforcer");
}

bool names_services(const calc::TableUpdate& update) {
    return std::ranges::any_of(update.steps, [](const auto& step) {
        const auto* one = std::get_if<calc::ClassStep>(&step);
        return one != nullptr && !one->remove && (one->value.flags & MANX_CLASS_SERVICE) != 0;
    });
}

} // namespace

Result<void> Enforcer::prepare(uint32_t ifindex) {
    return loader_.attach_workload(ifindex);
}

Result<std::vector<std::string>> Enforcer::missing_programs(uint32_t ifindex) {
    return loader_.missing_of_workload(ifindex);
}

void Enforcer::clean_up(uint32_t ifindex) {
    if (auto cleaned = loader_.clean_up_workload(ifindex); !cleaned) {
        logger()->warn("something stays of a device that is gone ifindex={} reason=\"{}\"", ifindex,
                       cleaned.error().text());
    }
}

void Enforcer::enforce(const dataplane::LocalEndpoint& endpoint, Done done) {
    endpoints_[endpoint.interface] = endpoint;
    calculator_.upsert_local(endpoint);
    endpoints_changed_ = true;
    waiting_.add(endpoint.interface, Clock::now(), std::move(done));
    if (complete_) {
        flush_soon();
    }
}

// After what the loop has at hand: the endpoints of a burst are one write of the tables.
void Enforcer::flush_soon() {
    if (std::exchange(flush_posted_, true)) {
        return;
    }
    loop_.post([this, alive = std::weak_ptr(alive_)] {
        if (!alive.expired() && flush_posted_) {
            flush();
        }
    });
}

void Enforcer::forget(const std::string& interface) {
    if (endpoints_.erase(interface) == 0) {
        return;
    }
    calculator_.remove_local(interface);
    endpoints_changed_ = true;
    if (complete_) {
        flush();
    }
}

void Enforcer::datastore_changed(bool complete) {
    complete_ = complete_ || complete;
    if (complete_) {
        flush();
    }
}

// The tables say what the calculator says, by its steps or, after a start or an error, anew.
Result<void> Enforcer::write_tables() {
    auto update = calculator_.flush();
    calculated_ = std::chrono::steady_clock::now();
    policy_changed_ = policy_changed_ || !update.empty() || tables_.behind();
    // Flows to what has become a service's address are to go by the host stack.
    endpoints_changed_ = endpoints_changed_ || tables_.behind() || names_services(update);
    if (!tables_.behind()) {
        auto applied = tables_.apply(update);
        if (applied || applied.error().kind != ErrorKind::Exhausted) {
            return applied;
        }
        endpoints_changed_ = true;
    }
    return tables_.resync(calculator_.snapshot()); // which may do it in parts
}

// The next rule that gets a number starts at zero.
void Enforcer::reset_counters() {
    const auto released = calculator_.take_released_rules();
    if (released.empty()) {
        return;
    }
    auto hits = loader_.per_cpu_map(maps::kRuleHits);
    for (const uint32_t number : released) {
        if (hits) {
            (void)hits->reset(number); // a counter that is too high does no harm
        }
    }
}

void Enforcer::collect() {
    collect_ = {};
    if (tables_.behind()) {
        return; // its next try does it
    }
    if (auto done = tables_.collect(); !done) {
        logger()->warn("what is out of use stays in the tables reason=\"{}\"", done.error().text());
        return;
    }
    collect_later();
}

// What nobody names any more goes when its grace period is over, not with the next event.
void Enforcer::collect_later() {
    if (!tables_.waiting() || tables_.behind() || collect_) {
        return;
    }
    if (auto timer = loop_.add_timer(dataplane::PolicyTables::kGrace, [this] { collect(); })) {
        collect_ = std::move(*timer);
    }
}

bool Enforcer::in_force(const std::string& interface) const {
    const auto found = endpoints_.find(interface);
    return found != endpoints_.end() && !found->second.addresses.empty() &&
           std::ranges::all_of(found->second.addresses, [&](const IpAddress& address) {
               return tables_.in_force(address, found->second.ifindex);
           });
}

void Enforcer::retry_at(Clock::time_point time) {
    const auto now = Clock::now();
    const auto after = std::chrono::ceil<EventLoop::Duration>(std::max(time, now) - now);
    auto timer = loop_.add_timer(after, [this] {
        retry_at_ = {};
        flush();
    });
    if (timer) {
        retry_ = std::move(*timer);
        retry_at_ = time;
    } else {
        retry_at_ = {}; // with the next event, then
    }
}

void Enforcer::retry_later() {
    std::chrono::milliseconds after = retry_after_;
    if (tables_.waiting()) {
        after = dataplane::PolicyTables::kGrace; // what goes makes room
        retry_after_ = kRetry;
    } else if (!waiting_.empty()) {
        after = kRetry;
    } else {
        retry_after_ = std::min(retry_after_ * 2, kRetryMost);
    }
    retry_at(tried_ + after);
}

// done: the tables are as they should be; else some endpoints have moved on.
void Enforcer::bump_epochs(bool done) {
    Result<void> bumped;
    if (endpoints_changed_) {
        bumped = loader_.bump_epoch();
    }
    // Most batches change no table: a pod's status, a service that only BGP asks about.
    if (policy_changed_ && cut_flows_ && bumped) {
        bumped = loader_.bump_policy_epoch();
    }
    if (!bumped) {
        logger()->error("flows keep their old way out reason=\"{}\"", bumped.error().text());
    }
    endpoints_changed_ = endpoints_changed_ && !done;
    policy_changed_ = policy_changed_ && !done;
}

void Enforcer::flush() {
    flush_posted_ = false;
    if (tables_.behind() && Clock::now() < retry_at_) {
        // What changed is in the calculator, and goes with the next try.
        if (!waiting_.empty() && tried_ + kRetry < retry_at_) {
            retry_at(tried_ + kRetry);
        }
        return;
    }
    tried_ = Clock::now();
    const auto moves = tables_.moves();
    auto applied = write_tables();
    auto trouble = applied ? std::string() : applied.error().text();
    if (trouble != trouble_) {
        if (applied) {
            logger()->info("the tables are as they should be again");
        } else {
            logger()->error("tables not written, the old policy stays reason=\"{}\"", trouble);
        }
        trouble_ = std::move(trouble);
    }
    retry_ = {};
    if (applied) {
        retry_after_ = kRetry;
        retry_at_ = {};
        reset_counters();
    }
    if (applied || tables_.moves() != moves) {
        bump_epochs(applied.has_value());
    }
    waiting_.settle(
        applied, [this](const std::string& interface) { return in_force(interface); },
        Clock::now());
    if (!applied) {
        retry_later();
    }
    collect_later();
}

} // namespace manx::app
