// SPDX-License-Identifier: Apache-2.0
#include "agent/app/enforcer.h"

#include "base/log.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <variant>

namespace manx::app {

namespace {

constexpr auto kRetry = std::chrono::seconds(1);

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
    waiting_.push_back(std::move(done));
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
    if (tables_.behind()) {
        return tables_.resync(calculator_.snapshot());
    }
    return tables_.apply(update);
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

void Enforcer::flush() {
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
    flush_posted_ = false;
    if (!applied) {
        if (auto timer = loop_.add_timer(kRetry, [this] { flush(); })) {
            retry_ = std::move(*timer);
        }
    }
    if (applied) {
        reset_counters();
        Result<void> bumped;
        if (std::exchange(endpoints_changed_, false)) {
            bumped = loader_.bump_epoch();
        }
        // Most batches change no table: a pod's status, a service that only BGP asks about.
        if (std::exchange(policy_changed_, false) && cut_flows_ && bumped) {
            bumped = loader_.bump_policy_epoch();
        }
        if (!bumped) {
            log::get("enforcer")
                ->error("flows keep their old way out reason=\"{}\"", bumped.error().text());
        }
    }
    for (auto& done : std::exchange(waiting_, {})) {
        done(applied);
    }
}

} // namespace manx::app
