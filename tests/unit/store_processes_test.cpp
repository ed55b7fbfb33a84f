// SPDX-License-Identifier: Apache-2.0
// Several processes on one file: no lost update, and nothing torn by a kill.
#include "tests/unit/store_fixture.h"

#include <gtest/gtest.h>

#include <sys/wait.h>

#include <csignal>
#include <cstdlib>

namespace manx::datastore {
namespace {

using nlohmann::json;

// Runs work in a child with a store of its own; the child ends with 0 where work returns true.
template <typename Work>
pid_t child(const std::string& path, Work work) {
    pid_t pid = fork();
    if (pid == 0) {
        auto store = open_sqlite(path);
        _exit(store && work(**store) ? 0 : 1);
    }
    return pid;
}

int wait_for(pid_t pid) {
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
}

// Adds one to the counter object by compare-and-swap, n times.
bool count(Store& store, int n) {
    while (n > 0) {
        auto object = store.get(pool_key("counter"));
        if (!object) {
            return false;
        }
        json next = json::parse(object->json);
        next["spec"]["n"] = next["spec"]["n"].get<int>() + 1;
        auto updated = store.update(pool_key("counter"), next);
        if (updated) {
            n--;
        } else if (updated.error().kind != ErrorKind::Conflict) {
            return false;
        }
    }
    return true;
}

TEST(Processes, CompareAndSwapLosesNoUpdate) {
    TemporaryFolder folder;
    std::string path = folder.file("store.db");
    pid_t first = child(path, [](Store& store) {
        return store.create(pool_key("counter"), object_with({{"n", 0}})).has_value();
    });
    ASSERT_EQ(wait_for(first), 0);
    std::vector<pid_t> pids;
    for (int i = 0; i < 4; i++) {
        pids.push_back(child(path, [](Store& store) { return count(store, 200); }));
    }
    for (pid_t pid : pids) {
        EXPECT_EQ(wait_for(pid), 0);
    }
    auto store = open_sqlite(path);
    EXPECT_EQ(json::parse((*store)->get(pool_key("counter"))->json)["spec"]["n"], 800);
}

TEST(Processes, OpenANewFileAtOnce) {
    TemporaryFolder folder;
    std::string path = folder.file("store.db");
    std::vector<pid_t> pids;
    for (int i = 0; i < 6; i++) {
        pids.push_back(child(path, [i](Store& store) {
            return store.create(pool_key(std::to_string(i)), object_with({})).has_value();
        }));
    }
    for (pid_t pid : pids) {
        EXPECT_EQ(wait_for(pid), 0);
    }
    EXPECT_EQ((*open_sqlite(path))->list(api::Kind::IpPool)->objects.size(), 6U);
}

TEST(Processes, OnlyOneOfSeveralCreatesWins) {
    TemporaryFolder folder;
    std::string path = folder.file("store.db");
    std::vector<pid_t> pids;
    for (int i = 0; i < 4; i++) {
        pids.push_back(child(path, [i](Store& store) {
            for (int n = 0; n < 100; n++) {
                auto created = store.create(pool_key(std::to_string(n)), object_with({{"by", i}}));
                if (!created && created.error().kind != ErrorKind::AlreadyExists) {
                    return false;
                }
            }
            return true;
        }));
    }
    for (pid_t pid : pids) {
        EXPECT_EQ(wait_for(pid), 0);
    }
    auto list = (*open_sqlite(path))->list(api::Kind::IpPool);
    EXPECT_EQ(list->objects.size(), 100U);
    EXPECT_EQ(list->resource_version, "100");
}

// A child writes pairs, b after a with the same number, until it is killed. At each kill the file
// must open, and b must not be ahead of a; and the numbers go on from where they were.
TEST(Processes, AKillInTheMiddleOfWritesTearsNothing) {
    TemporaryFolder folder;
    std::string path = folder.file("store.db");
    int last[2] = {0, 0}; // of a and b: b follows a
    for (int round = 0; round < 25; round++) {
        pid_t pid = child(path, [from = last[0]](Store& store) {
            for (const char* name : {"a", "b"}) { // exist from the second round on
                (void)store.create(pool_key(name), object_with({{"n", 0}}));
            }
            std::string filler(20000, 'x'); // several pages for each commit
            for (int n = from;; n++) {
                for (const char* name : {"a", "b"}) {
                    if (!store.update(pool_key(name), object_with({{"n", n}, {"x", filler}}))) {
                        return false;
                    }
                }
            }
        });
        usleep(static_cast<useconds_t>(15000 + round * 1777));
        kill(pid, SIGKILL);
        int status = wait_for(pid);
        ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed";
        auto store = open_sqlite(path);
        ASSERT_TRUE(store) << store.error().text();
        int numbers[2] = {0, 0};
        for (int i = 0; i < 2; i++) {
            if (auto object = (*store)->get(pool_key(i == 0 ? "a" : "b"))) {
                json parsed = json::parse(object->json, nullptr, false);
                ASSERT_FALSE(parsed.is_discarded());
                numbers[i] = parsed["spec"].value("n", 0);
            }
        }
        ASSERT_TRUE(numbers[0] == numbers[1] || numbers[0] == numbers[1] + 1)
            << numbers[0] << " " << numbers[1];
        for (int i = 0; i < 2; i++) {
            ASSERT_GE(numbers[i], last[i]);
            last[i] = numbers[i];
        }
    }
    EXPECT_GT(last[0], 25);
}

TEST(Processes, AWatchHearsAnotherProcess) {
    TemporaryFolder folder;
    std::string path = folder.file("store.db");
    int gate[2];
    ASSERT_EQ(pipe(gate), 0);
    pid_t pid = child(path, [&](Store& store) { // forked before any thread is here
        char c = 0;
        if (read(gate[0], &c, 1) != 1) {
            return false;
        }
        for (int i = 0; i < 100; i++) {
            if (!store.create(pool_key("p" + std::to_string(100 + i)), object_with({}))) {
                return false;
            }
        }
        return true;
    });
    auto store = open_sqlite(path);
    ASSERT_TRUE(store);
    Recorder recorder;
    auto watch = (*store)->watch(api::Kind::IpPool, recorder.handler());
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.syncs == 1; }));
    ASSERT_EQ(write(gate[1], "x", 1), 1);
    EXPECT_TRUE(recorder.wait_for([&] { return recorder.events.size() == 100; }));
    EXPECT_EQ(wait_for(pid), 0);
    for (int i = 0; i < 100; i++) {
        EXPECT_EQ(recorder.events[static_cast<size_t>(i)].object.key.name,
                  "p" + std::to_string(100 + i));
    }
}

} // namespace
} // namespace manx::datastore
