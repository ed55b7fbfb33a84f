// SPDX-License-Identifier: Apache-2.0
// Gathers items while a worker is busy with earlier ones, and hands them over at once: a burst of
// requests costs one write, or one RCU grace period, instead of one each. A lone item goes at once.
//
// Threading: push() on the loop's thread; the work runs on the worker; finished() on the loop's
// thread, once per item, in order. Both the loop and the worker outlive the batch; what comes back
// after the batch is gone is dropped.
#pragma once

#include "base/event_loop.h"
#include "base/worker.h"

#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace manx::cni {

template <typename Item>
class Batch {
public:
    using Work = std::function<void(std::vector<Item>& items)>;
    using Finished = std::function<void(Item& item)>;

    Batch(EventLoop& loop, Worker& worker, Work work, Finished finished)
        : loop_(loop), worker_(worker), work_(std::move(work)), finished_(std::move(finished)) {}

    void push(Item item) {
        waiting_.push_back(std::move(item));
        start();
    }

private:
    void start() {
        if (busy_ || waiting_.empty()) {
            return;
        }
        busy_ = true;
        auto items = std::make_shared<std::vector<Item>>(std::exchange(waiting_, {}));
        worker_.post([this, items, work = work_, &loop = loop_, alive = std::weak_ptr(alive_)] {
            work(*items);
            loop.post([this, items, alive] {
                if (alive.expired()) {
                    return;
                }
                busy_ = false;
                start(); // the worker goes on while the loop looks at what it did
                for (Item& item : *items) {
                    finished_(item);
                }
            });
        });
    }

    EventLoop& loop_;
    Worker& worker_;
    Work work_;
    Finished finished_;
    std::vector<Item> waiting_;
    bool busy_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

} // namespace manx::cni
