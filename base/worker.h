// SPDX-License-Identifier: Apache-2.0
// One thread that runs blocking calls in order; results go back with EventLoop::post.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace manx {

class Worker {
public:
    explicit Worker(std::string name); // at most 15 characters: the thread's name
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    ~Worker(); // finishes what is queued, then joins

    void post(std::function<void()> job); // any thread
    // All jobs queued now, at once: for workers that serve a burst with one write. Only from a job.
    std::deque<std::function<void()>> take_queued();

private:
    void run();

    std::string name_;
    std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<std::function<void()>> jobs_;
    bool stopping_ = false;
    std::thread thread_;
};

} // namespace manx
