// SPDX-License-Identifier: Apache-2.0
#include "base/worker.h"

#include <csignal>
#include <pthread.h>

namespace manx {

Worker::Worker(std::string name) : name_(std::move(name)), thread_([this] { run(); }) {
}

Worker::~Worker() {
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    ready_.notify_one();
    thread_.join();
}

void Worker::post(std::function<void()> job) {
    {
        std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
    }
    ready_.notify_one();
}

std::deque<std::function<void()>> Worker::take_queued() {
    std::lock_guard lock(mutex_);
    std::deque<std::function<void()>> all;
    all.swap(jobs_);
    return all;
}

void Worker::run() {
    // Signals belong to the loop's thread.
    sigset_t set;
    sigfillset(&set);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
    std::unique_lock lock(mutex_);
    while (true) {
        ready_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (jobs_.empty()) {
            return;
        }
        auto job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        job();
        job = nullptr;
        lock.lock();
    }
}

} // namespace manx
