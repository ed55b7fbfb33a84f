// SPDX-License-Identifier: Apache-2.0
#include "base/event_loop.h"
#include "base/ip.h"
#include "base/worker.h"

#include <gtest/gtest.h>

#include <sys/wait.h>

#include <unistd.h>

namespace manx {
namespace {

TEST(Ip, ParsesAndPrintsBothFamilies) {
    for (const char* text :
         {"10.0.0.5", "255.255.255.255", "::1", "2620:0:861:cabe::", "fe80::1"}) {
        auto address = IpAddress::parse(text);
        ASSERT_TRUE(address) << text;
        EXPECT_EQ(address->text(), text);
    }
    for (const char* text : {"", "10.0.0", "10.0.0.256", "1:2", "::g", "10.0.0.1/8", " 10.0.0.1"}) {
        EXPECT_FALSE(IpAddress::parse(text)) << text;
    }
}

TEST(Ip, CidrMasksAndContains) {
    auto cidr = Cidr::parse("10.1.2.3/20");
    ASSERT_TRUE(cidr);
    EXPECT_EQ(cidr->text(), "10.1.0.0/20");
    EXPECT_EQ(cidr->last().text(), "10.1.15.255");
    EXPECT_TRUE(cidr->contains(*IpAddress::parse("10.1.15.255")));
    EXPECT_FALSE(cidr->contains(*IpAddress::parse("10.1.16.0")));
    EXPECT_FALSE(cidr->contains(*IpAddress::parse("::ffff:10.1.2.3")));
    auto v6 = Cidr::parse("2001:db8::ff/122");
    ASSERT_TRUE(v6);
    EXPECT_EQ(v6->text(), "2001:db8::c0/122");
    EXPECT_EQ(v6->size(), 64U);
    EXPECT_EQ(Cidr::parse("::/0")->size(), UINT64_MAX);
    for (const char* text : {"10.0.0.0/33", "10.0.0.0/", "::/129", "10.0.0.0/a", "10.0.0.0/8/8"}) {
        EXPECT_FALSE(Cidr::parse(text)) << text;
    }
}

TEST(Ip, Arithmetic) {
    EXPECT_EQ(IpAddress::parse("10.0.0.250")->plus(10).text(), "10.0.1.4");
    EXPECT_EQ(IpAddress::parse("2001:db8::ffff:ffff")->plus(1).text(), "2001:db8::1:0:0");
    EXPECT_EQ(IpAddress::parse("10.0.1.4")->minus(*IpAddress::parse("10.0.0.250")), 10U);
    EXPECT_EQ(IpAddress::parse("2001:db9::")->minus(*IpAddress::parse("2001:db8::")), UINT64_MAX);
    EXPECT_LT(*IpAddress::parse("9.255.255.255"), *IpAddress::parse("10.0.0.0"));
    EXPECT_LT(*IpAddress::parse("255.0.0.0"), *IpAddress::parse("::"));
}

TEST(Ip, Mac) {
    EXPECT_EQ(MacAddress::parse("EE:ee:ee:00:01:ff")->text(), "ee:ee:ee:00:01:ff");
    EXPECT_FALSE(MacAddress::parse("ee:ee:ee:00:01"));
    EXPECT_FALSE(MacAddress::parse("ee-ee-ee-00-01-ff"));
}

TEST(EventLoop, TimersPostsChildrenAndWorkers) {
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    int ticks = 0;
    bool posted = false;
    int status = -1;
    Worker worker("test");
    auto maybe_quit = [&] {
        if (ticks >= 3 && posted && status >= 0) {
            (*loop)->quit(7);
        }
    };
    auto periodic = (*loop)->add_periodic(std::chrono::milliseconds(5), [&] {
        ticks++;
        maybe_quit();
    });
    ASSERT_TRUE(periodic);
    worker.post([&] { (*loop)->post([&] { posted = true; }); });
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    int pid = fork();
    if (pid == 0) {
        _exit(3);
    }
    auto child = (*loop)->add_child(pid, [&](int s) { status = WEXITSTATUS(s); });
    ASSERT_TRUE(child) << child.error().text();
    auto timeout = (*loop)->add_timer(std::chrono::seconds(5), [&] { (*loop)->quit(1); });
    EXPECT_EQ((*loop)->run(), 7);
    EXPECT_EQ(status, 3);
}

TEST(Result, ErrorsKeepKindAndGainContext) {
    auto inner = []() -> Result<int> { return fail(ErrorKind::Exhausted, "no address"); };
    auto outer = [&]() -> Result<int> {
        auto got = inner();
        if (!got) {
            return Unexpected(got.error().within("pool ipv4"));
        }
        return *got;
    };
    auto result = outer();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, ErrorKind::Exhausted);
    EXPECT_EQ(result.error().text(), "pool ipv4: no address");
}

} // namespace
} // namespace manx
