// SPDX-License-Identifier: Apache-2.0
#include "agent/app/collector.h"

#include "base/log.h"

#include <random>
#include <utility>

namespace manx::app {

namespace {

constexpr auto kWithoutLeaks = std::chrono::minutes(5);

// A quarter more or less, so that the agents of a cluster do not all come at once.
std::chrono::milliseconds spread(std::chrono::milliseconds period) {
    std::random_device random;
    std::uniform_int_distribution<int64_t> around(period.count() * 3 / 4, period.count() * 5 / 4);
    return std::chrono::milliseconds(around(random));
}

} // namespace

Collector::Collector(EventLoop& loop, datastore::Store& store, std::chrono::seconds leak_grace)
    : loop_(loop), store_(store) {
    options_.leak_grace = leak_grace;
}

Result<void> Collector::start() {
    std::chrono::milliseconds period = options_.leak_grace / 2;
    if (period.count() == 0) {
        period = kWithoutLeaks;
    }
    TRY_ASSIGN(timer_, loop_.add_timer(spread(period), [this] {
        worker_.post([this] { pass(); });
        if (auto again = start(); !again) {
            log::get("ipam")->error("no further collection reason=\"{}\"", again.error().text());
        }
    }));
    return {};
}

void Collector::pass() {
    auto done = ipam::collect_once(store_, ipam::system_now(), state_, options_);
    passes_++;
    if (!done) {
        log::get("ipam")->warn("collection failed, tried again later reason=\"{}\"",
                               done.error().text());
        return;
    }
    if (std::exchange(held_, done->held) != done->held) {
        log::get("ipam")->info(done->held ? "nothing is collected while the datastore is locked"
                                          : "collecting again");
    }
    collected_ += done->total();
    if (done->total() != 0 || done->failures != 0) {
        log::get("ipam")->info("collected leaks={} cooled={} blocks={} handles={} affinities={} "
                               "failures={}",
                               done->leaks_released, done->cooled_freed, done->blocks_released,
                               done->handles_repaired, done->affinities_repaired, done->failures);
    }
}

} // namespace manx::app
