// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/manager.h"

#include "agent/bgp/render.h"

#include <fmt/format.h>

#include <algorithm>

namespace manx::bgp {

using std::chrono::milliseconds;

namespace {

// Sessions that come up are watched more closely, for so long after a change.
constexpr auto kSettling = std::chrono::seconds(60);
constexpr milliseconds kSettlingPoll{1000};

} // namespace

Result<void> set_router_id(BgpOptions& options, std::string_view text) {
    if (text.empty()) {
        options.router_id_mode = RouterIdMode::NodeIp;
    } else if (text == "hash") {
        options.router_id_mode = RouterIdMode::Hash;
    } else {
        auto id = IpAddress::parse(text);
        if (!id || !id->is_v4()) {
            return fail(
                ErrorKind::ConfigInvalid,
                fmt::format("router id \"{}\": expected \"hash\" or an IPv4 address", text));
        }
        options.router_id_mode = RouterIdMode::Literal;
        options.router_id = *id;
    }
    return {};
}

size_t BgpStatus::established() const {
    return static_cast<size_t>(
        std::ranges::count_if(peers, [](const PeerState& p) { return p.established(); }));
}

bool BgpStatus::ready(bool strict) const {
    if (!running) {
        return false;
    }
    if (peers.empty()) {
        return !recovering || !strict;
    }
    return strict ? !recovering && established() == peers.size() : established() > 0;
}

BgpManager::BgpManager(EventLoop& loop, BgpOptions options)
    : loop_(loop), options_(std::move(options)),
      objects_(options_.node_name, options_.secret_namespace), bird_(loop, options_.bird),
      log_(log::get("bgp")), changed_at_(std::chrono::steady_clock::now()) {
    bird_.on_change([this] { note_process(); });
}

void BgpManager::start() {
    bird_.adopt();
    refresh_in(kSettlingPoll);
}

void BgpManager::flush(bool synced) {
    if (!synced || !dirty_) {
        return;
    }
    dirty_ = false;
    std::vector<std::string> problems;
    Inputs inputs = objects_.inputs(problems);
    inputs.router_id_mode = options_.router_id_mode;
    inputs.router_id = options_.router_id;
    inputs.log_file = options_.bird.log;
    inputs.timers = options_.timers;
    inputs.graceful_restart_wait = options_.graceful_restart_wait;
    auto rendered = render_bird_config(inputs);
    if (!rendered) {
        problems.push_back(rendered.error().text());
    } else {
        problems.insert(problems.end(), rendered->problems.begin(), rendered->problems.end());
        bird_.set_config(std::move(rendered->text));
    }
    note_problems(std::move(problems));
}

void BgpManager::note_problems(std::vector<std::string> problems) {
    for (const std::string& problem : problems) {
        if (std::ranges::find(status_.problems, problem) == status_.problems.end()) {
            log_->warn("{}", problem);
        }
    }
    status_.problems = std::move(problems);
}

void BgpManager::note_process() {
    changed_at_ = std::chrono::steady_clock::now();
    status_.running = bird_.state() == BirdProcess::State::Running;
    status_.config_in_force = bird_.config_in_force();
    status_.error = bird_.error();
    status_.starts = bird_.starts();
    status_.reconfigurations = bird_.reconfigurations();
    if (!status_.running) {
        status_.peers.clear();
    }
    if (on_status_) {
        on_status_();
    }
    refresh_in(milliseconds(100));
}

void BgpManager::refresh_in(milliseconds after) {
    if (auto timer = loop_.add_timer(after, [this] { refresh(); })) {
        timer_ = std::move(*timer);
    }
}

void BgpManager::refresh() {
    bool settling = std::chrono::steady_clock::now() - changed_at_ < kSettling &&
                    status_.established() < status_.peers.size();
    refresh_in(settling ? kSettlingPoll : milliseconds(options_.poll));
    if (asking_ || bird_.state() != BirdProcess::State::Running) {
        return;
    }
    asking_ = true;
    control().request("show status", [this](Result<Reply> reply) {
        if (reply) {
            status_.recovering = parse_status(*reply).recovering;
        }
    });
    control().request("show protocols all", [this](Result<Reply> reply) {
        asking_ = false;
        if (!reply) {
            log_->warn("cannot ask BIRD for its sessions: {}", reply.error().text());
            return;
        }
        std::vector<PeerState> peers;
        for (ProtocolStatus& protocol : parse_protocols(*reply)) {
            if (protocol.proto == "BGP") {
                peers.push_back({std::move(protocol)});
            }
        }
        std::ranges::sort(peers, {}, [](const PeerState& p) { return p.protocol.name; });
        for (const PeerState& peer : peers) {
            auto old = std::ranges::find_if(status_.peers, [&](const PeerState& p) {
                return p.protocol.name == peer.protocol.name;
            });
            if (old == status_.peers.end() || old->protocol.bgp_state != peer.protocol.bgp_state) {
                log_->info("BGP session {} is {} info=\"{}\"", peer.protocol.name,
                           peer.protocol.bgp_state, peer.protocol.info);
            }
        }
        bool count_changed = peers.size() != status_.peers.size();
        status_.peers = std::move(peers);
        if (count_changed) {
            refresh_in(kSettlingPoll);
        }
        if (on_status_) {
            on_status_();
        }
    });
}

} // namespace manx::bgp
