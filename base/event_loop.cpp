// SPDX-License-Identifier: Apache-2.0
#include "base/event_loop.h"

#include <systemd/sd-event.h>

#include <sys/eventfd.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <unistd.h>

namespace manx {

// What a C callback of sd-event is handed: the function, and its re-arming period if it has one.
struct EventSource::State {
    sd_event_source* source = nullptr;
    uint64_t period_us = 0;
    uint64_t* turns = nullptr;
    std::function<void(uint32_t)> fn;

    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    ~State() {
        if (source != nullptr) {
            sd_event_source_disable_unref(source);
        }
    }
};

EventSource::EventSource(std::unique_ptr<State> state) : state_(std::move(state)) {
}

EventSource::EventSource() = default;
EventSource::EventSource(EventSource&&) noexcept = default;
EventSource& EventSource::operator=(EventSource&&) noexcept = default;
EventSource::~EventSource() = default;

namespace {

void dispatch(void* userdata, uint32_t value) {
    auto* state = static_cast<EventSource::State*>(userdata);
    ++*state->turns;
    // A copy, since the function may destroy its own source.
    auto fn = state->fn;
    fn(value);
}

int on_io(sd_event_source* /*source*/, int /*fd*/, uint32_t revents, void* userdata) {
    dispatch(userdata, revents);
    return 0;
}

int on_time(sd_event_source* source, uint64_t /*usec*/, void* userdata) {
    const auto* state = static_cast<EventSource::State*>(userdata);
    if (state->period_us != 0) {
        sd_event_source_set_time_relative(source, state->period_us);
        sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
    }
    dispatch(userdata, 0);
    return 0;
}

int on_signal(sd_event_source* /*source*/, const struct signalfd_siginfo* /*info*/,
              void* userdata) {
    dispatch(userdata, 0);
    return 0;
}

int on_child(sd_event_source* /*source*/, const siginfo_t* info, void* userdata) {
    uint32_t status = info->si_code == CLD_EXITED
                          ? static_cast<uint32_t>(info->si_status & 0xff) << 8
                          : static_cast<uint32_t>(info->si_status & 0x7f);
    dispatch(userdata, status);
    return 0;
}

} // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
    std::unique_ptr<EventLoop> loop(new EventLoop);
    TRY(loop->start());
    return loop;
}

Result<void> EventLoop::start() {
    if (int rc = sd_event_new(&event_); rc < 0) {
        return fail_errno("sd_event_new", -rc);
    }
    wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_) {
        return fail_errno("eventfd");
    }
    TRY_ASSIGN(wake_source_, add_io(wake_.get(), 1 /* EPOLLIN */, [this](uint32_t) { drain(); }));
    return {};
}

EventLoop::~EventLoop() {
    wake_source_ = {};
    sd_event_unref(event_);
}

void EventLoop::drain() {
    uint64_t count = 0;
    (void)!read(wake_.get(), &count, sizeof count); // only resets the counter
    std::deque<std::function<void()>> batch;
    {
        std::lock_guard lock(mutex_);
        batch.swap(posted_);
    }
    for (auto& fn : batch) {
        fn();
    }
}

void EventLoop::post(std::function<void()> fn) {
    {
        std::lock_guard lock(mutex_);
        posted_.push_back(std::move(fn));
    }
    uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof one); // fails only when already at its maximum
}

Result<EventSource> EventLoop::add_io(int fd, uint32_t events, std::function<void(uint32_t)> fn) {
    auto state = std::make_unique<EventSource::State>();
    state->turns = &turns_;
    state->fn = std::move(fn);
    if (int rc = sd_event_add_io(event_, &state->source, fd, events, on_io, state.get()); rc < 0) {
        return fail_errno("sd_event_add_io", -rc);
    }
    return EventSource(std::move(state));
}

Result<EventSource> EventLoop::add_timer(Duration after, std::function<void()> fn) {
    auto state = std::make_unique<EventSource::State>();
    state->turns = &turns_;
    state->fn = [fn = std::move(fn)](uint32_t) { fn(); };
    if (int rc = sd_event_add_time_relative(event_, &state->source, CLOCK_MONOTONIC,
                                            static_cast<uint64_t>(after.count()), 1000, on_time,
                                            state.get());
        rc < 0) {
        return fail_errno("sd_event_add_time", -rc);
    }
    return EventSource(std::move(state));
}

Result<EventSource> EventLoop::add_periodic(Duration every, std::function<void()> fn) {
    TRY_ASSIGN(auto source, add_timer(every, std::move(fn)));
    source.state_->period_us = static_cast<uint64_t>(every.count());
    return source;
}

Result<EventSource> EventLoop::add_signal(int signo, std::function<void()> fn) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signo);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    auto state = std::make_unique<EventSource::State>();
    state->turns = &turns_;
    state->fn = [fn = std::move(fn)](uint32_t) { fn(); };
    if (int rc = sd_event_add_signal(event_, &state->source, signo, on_signal, state.get());
        rc < 0) {
        return fail_errno("sd_event_add_signal", -rc);
    }
    return EventSource(std::move(state));
}

Result<EventSource> EventLoop::add_child(int pid, std::function<void(int)> fn) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    auto state = std::make_unique<EventSource::State>();
    state->turns = &turns_;
    state->fn = [fn = std::move(fn)](uint32_t status) { fn(static_cast<int>(status)); };
    if (int rc = sd_event_add_child(event_, &state->source, pid, WEXITED, on_child, state.get());
        rc < 0) {
        return fail_errno("sd_event_add_child", -rc);
    }
    return EventSource(std::move(state));
}

int EventLoop::run() {
    return sd_event_loop(event_);
}

void EventLoop::quit(int code) {
    sd_event_exit(event_, code);
}

} // namespace manx
