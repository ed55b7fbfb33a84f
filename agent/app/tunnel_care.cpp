// SPDX-License-Identifier: Apache-2.0
#include "agent/app/tunnel_care.h"

#include "base/log.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <utility>

namespace manx::app {

namespace {

// A full pool costs a list of all blocks each time.
constexpr auto kRetry = std::chrono::seconds(5);
constexpr auto kRetryFull = std::chrono::seconds(60);

} // namespace

nlohmann::json annotation_patch(const std::map<std::string, std::string>& annotations) {
    auto values = nlohmann::json::object();
    for (const auto& [name, value] : annotations) {
        values[name] = value.empty() ? nlohmann::json() : nlohmann::json(value);
    }
    return {{"metadata", {{"annotations", std::move(values)}}}};
}

TunnelCare::TunnelCare(EventLoop& loop, datastore::Store& store, ipam::Allocator& allocator,
                       NodeWriter& writer, const std::string& node_name, bool host_encryption)
    : loop_(loop), writer_(writer), tunnels_(store, allocator, node_name),
      host_encryption_(host_encryption) {
}

void TunnelCare::node_changed(const api::Node& node) {
    if (node.meta.labels != labels_ || node.meta.annotations != annotations_) {
        labels_ = node.meta.labels;
        annotations_ = node.meta.annotations;
        due_ = true;
    }
}

void TunnelCare::run(bool locked) {
    locked_ = locked;
    start_pass();
}

void TunnelCare::start_pass() {
    if (!due_ || locked_ || running_) {
        return;
    }
    due_ = false;
    running_ = true;
    retry_ = {};
    worker_.post([this, alive = std::weak_ptr(alive_)] {
        auto done = tunnels_.pass(host_encryption_);
        loop_.post([this, alive, done = std::move(done)] {
            if (!alive.expired()) {
                finish_pass(done);
            }
        });
    });
}

void TunnelCare::finish_pass(const Result<ipam::TunnelPass>& done) {
    running_ = false;
    if (done && !done->annotations.empty()) {
        writer_.patch_addresses(annotation_patch(done->annotations));
    }
    std::string trouble = done ? "" : done.error().text();
    bool full = done.has_value();
    if (done) {
        for (const auto& error : done->errors) {
            trouble += (trouble.empty() ? "" : "; ") + error.text();
            full = full && error.kind == ErrorKind::Exhausted;
        }
    }
    if (trouble != trouble_ && !trouble.empty()) {
        log::get("ipam")->error("tunnels lack addresses, trying again reason=\"{}\"", trouble);
    }
    trouble_ = std::move(trouble);
    if (!trouble_.empty()) {
        auto timer = loop_.add_timer(full ? kRetryFull : kRetry, [this] {
            due_ = true;
            start_pass();
        });
        if (timer) {
            retry_ = std::move(*timer);
        }
    }
    start_pass(); // what changed meanwhile
}

} // namespace manx::app
