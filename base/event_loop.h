// SPDX-License-Identifier: Apache-2.0
// A small wrapper of sd-event: the one loop on which the agent's state lives.
//
// Threading: everything except Mailbox::post and EventLoop::post is called on the loop's thread.
// Callbacks must not block; slow calls go to a Worker (base/worker.h) and come back by post().
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

struct sd_event;
struct sd_event_source;

namespace manx {

// Owner of one event source; destroying it removes the source.
class EventSource {
public:
    EventSource();
    EventSource(EventSource&&) noexcept;
    EventSource& operator=(EventSource&&) noexcept;
    EventSource(const EventSource&) = delete;
    EventSource& operator=(const EventSource&) = delete;
    ~EventSource();

    explicit operator bool() const { return state_ != nullptr; }

    struct State;

private:
    friend class EventLoop;
    explicit EventSource(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

class EventLoop {
public:
    using Clock = std::chrono::steady_clock;
    using Duration = std::chrono::microseconds;

    static Result<std::unique_ptr<EventLoop>> create();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;
    ~EventLoop();

    // events and revents are EPOLLIN, EPOLLOUT, ...; the fd stays the caller's.
    Result<EventSource> add_io(int fd, uint32_t events, std::function<void(uint32_t revents)> fn);
    Result<EventSource> add_timer(Duration after, std::function<void()> fn); // once
    Result<EventSource> add_periodic(Duration every, std::function<void()> fn);
    // The signal must be blocked in all threads (done here for the calling one).
    Result<EventSource> add_signal(int signo, std::function<void()> fn);
    // exit_status as waitpid gives it; the child has been reaped when fn runs.
    Result<EventSource> add_child(int pid, std::function<void(int exit_status)> fn);

    // Runs fn on the loop's thread, in order of posting. Any thread may call it.
    void post(std::function<void()> fn);

    int run(); // until quit(); returns its code
    void quit(int code = 0);

    // Monotonic count of dispatched events: what the liveness probe compares.
    [[nodiscard]] uint64_t turns() const { return turns_; }

private:
    EventLoop() = default;
    Result<void> start();
    void drain();

    sd_event* event_ = nullptr;
    UniqueFd wake_;
    EventSource wake_source_;
    std::mutex mutex_;
    std::deque<std::function<void()>> posted_;
    uint64_t turns_ = 0;
};

} // namespace manx
