// SPDX-License-Identifier: Apache-2.0
// BIRD as a daemon that this agent starts, configures and watches, but that does not live and die
// with it: it runs in its own session, goes on forwarding while the agent is away, and is adopted
// by the next agent through its pid file and control socket. Nothing here takes it down but down().
//
// A configuration is checked by `bird -p` before it is put in force; a bad one is reported, and the
// last good one stays. A BIRD that is started where one ran before recovers by graceful restart.
//
// Threading: the loop's thread.
#pragma once

#include "agent/bgp/bird_control.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace manx::bgp {

struct BirdPaths {
    std::string binary = "/usr/sbin/bird";
    std::string config;   // "<state dir>/bird.conf": it outlives a reboot
    std::string control;  // "<run dir>/bird.ctl"
    std::string pid_file; // "<run dir>/bird.pid"
    std::string log;      // "<run dir>/bird.log"; also what it writes to standard error

    static BirdPaths in(const std::string& run_dir, const std::string& state_dir);
};

class BirdProcess {
public:
    using Clock = std::chrono::steady_clock;

    enum class State {
        Idle,     // no configuration yet, and none found running
        Starting, // spawned, not yet answering
        Running,  // answering
        Backoff,  // ended by itself; will be started again
        Down,     // by down()
    };

    BirdProcess(EventLoop& loop, BirdPaths paths);
    BirdProcess(const BirdProcess&) = delete;
    BirdProcess& operator=(const BirdProcess&) = delete;
    ~BirdProcess(); // BIRD goes on

    // Looks for a BIRD that runs already; without one, starts it with the last good configuration
    // that is on disk, if any. Call once, before set_config.
    void adopt();

    // What should be in force. Checked, written and applied in the background; while one is being
    // checked only the newest of those that follow is remembered.
    void set_config(std::string text);

    // Ends BIRD: sessions close, kernel routes stay (`persist`). Only on an operator's word.
    void down();

    // Ends the BIRD of these paths, if one runs, and waits for that: for a node that is left, where
    // no agent runs. Kernel routes stay, for the next routing daemon to take over.
    static Result<void> end(const BirdPaths& paths);

    BirdControl& control() { return control_; }

    [[nodiscard]] State state() const { return state_; }

    [[nodiscard]] int pid() const { return pid_; } // 0: none

    [[nodiscard]] bool adopted() const { return adopted_; }

    // True once the newest configuration that was given is the one in force.
    [[nodiscard]] bool config_in_force() const {
        return state_ == State::Running && !checking_ && !next_ && !applying_ && error_.empty();
    }

    // Why the newest configuration is not in force; empty if nothing is wrong.
    [[nodiscard]] const std::string& error() const { return error_; }

    [[nodiscard]] uint64_t starts() const { return starts_; }

    [[nodiscard]] uint64_t reconfigurations() const { return reconfigurations_; }

    // After each change of state(), config_in_force() or error().
    void on_change(std::function<void()> fn) { on_change_ = std::move(fn); }

private:
    struct Check;

    void changed();
    void report(std::string error);
    void start_check(std::string text);
    void on_checked(bool good, const std::string& said);
    [[nodiscard]] Result<void> install();
    void apply();
    void start();
    Result<void> spawn(bool recover);
    void poll_ready(int attempt);
    void on_exit(const std::string& how);
    void watch_adopted(UniqueFd pidfd);
    void retry_later(std::chrono::milliseconds after);

    EventLoop& loop_;
    BirdPaths paths_;
    BirdControl control_;
    log::Logger log_;
    State state_ = State::Idle;
    int pid_ = 0;
    bool adopted_ = false;
    bool applying_ = false;
    bool apply_again_ = false;
    bool have_config_ = false;  // a checked one lies at paths_.config
    std::string in_force_;      // text of the last one that was installed
    std::string read_at_start_; // what a BIRD that is starting has read; empty: unknown
    std::optional<std::string> next_;
    std::unique_ptr<Check> checking_;
    std::string error_;
    std::chrono::milliseconds backoff_{0};
    Clock::time_point started_at_;
    UniqueFd pidfd_;
    EventSource exit_watch_;
    EventSource timer_;
    EventSource retry_timer_;
    uint64_t starts_ = 0;
    uint64_t reconfigurations_ = 0;
    std::function<void()> on_change_;
};

} // namespace manx::bgp
