// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/bird_control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <thread>
#include <unistd.h>

namespace manx::bgp {
namespace {

// As BIRD 2.0.12 prints them.
constexpr const char* kStatus = "1000-BIRD 2.0.12\n"
                                "1011-Router ID is 10.0.0.1\n"
                                " Hostname is vm\n"
                                " Current server time is 2026-11-24 01:41:54.445\n"
                                " Last reboot on 2026-11-24 01:41:53.028\n"
                                " Last reconfiguration on 2026-11-24 01:42:00.000\n"
                                "0024-Graceful restart recovery in progress\n"
                                "   Waiting for 1 channels to recover\n"
                                "0013 Daemon is up and running\n";
constexpr const char* kProtocols =
    "2002-Name       Proto      Table      State  Since         Info\n"
    "1002-device1    Device     ---        up     01:41:53  \n"
    "1006-\n"
    "1002-Node_10_64_133_1 BGP        ---        start  01:41:53  Active        Socket: "
    "Connection refused\n"
    "1006-  Description:    BGPPeer a\n"
    "   BGP state:          Active\n"
    "     Neighbor address: 127.0.0.2\n"
    "     Neighbor AS:      14907\n"
    "     Local AS:         64601\n"
    "   Channel ipv4\n"
    "     State:          DOWN\n"
    " \n"
    "1002-Node_fe80__1 BGP        ---        up     2026-11-24  Established   \n"
    "1006-  BGP state:          Established\n"
    "     Neighbor address: fe80::1%eth0\n"
    "     Neighbor AS:      4200000000\n"
    "   Channel ipv6\n"
    "     Routes:         3 imported, 1 filtered, 2 exported, 3 preferred\n"
    " \n"
    "0000 \n";

Reply parse(const std::string& text) {
    ReplyParser parser;
    parser.feed(text);
    auto reply = parser.next();
    EXPECT_TRUE(reply && *reply);
    return reply && *reply ? **reply : Reply{};
}

TEST(BirdReply, Status) {
    auto status = parse_status(parse(kStatus));
    EXPECT_EQ(status.version, "BIRD 2.0.12");
    EXPECT_EQ(status.router_id, "10.0.0.1");
    EXPECT_EQ(status.last_reboot, "2026-11-24 01:41:53.028");
    EXPECT_EQ(status.last_reconfiguration, "2026-11-24 01:42:00.000");
    EXPECT_TRUE(status.running);
    EXPECT_TRUE(status.recovering);
}

TEST(BirdReply, Protocols) {
    auto protocols = parse_protocols(parse(kProtocols));
    ASSERT_EQ(protocols.size(), 3U);
    EXPECT_EQ(protocols[0].proto, "Device");
    EXPECT_EQ(protocols[1].name, "Node_10_64_133_1");
    EXPECT_EQ(protocols[1].state, "start");
    EXPECT_EQ(protocols[1].since, "01:41:53");
    EXPECT_EQ(protocols[1].info, "Active        Socket: Connection refused");
    EXPECT_EQ(protocols[1].bgp_state, "Active");
    EXPECT_EQ(protocols[1].neighbor->text(), "127.0.0.2");
    EXPECT_EQ(protocols[1].neighbor_as, 14907U);
    EXPECT_EQ(protocols[2].neighbor->text(), "fe80::1");
    EXPECT_EQ(protocols[2].neighbor_as, 4200000000U);
    EXPECT_EQ(protocols[2].routes_imported, 3U);
    EXPECT_EQ(protocols[2].routes_exported, 2U);
}

TEST(BirdReply, ArrivesInAnyPieces) {
    std::string text =
        std::string("0001 BIRD 2.0.12 ready.\n") + kProtocols + "0003 Reconfigured\n";
    for (size_t step : {1, 7, 1000000}) {
        ReplyParser parser;
        std::vector<int> codes;
        for (size_t at = 0; at < text.size(); at += step) {
            parser.feed(std::string_view(text).substr(at, step));
            while (true) {
                auto reply = parser.next();
                ASSERT_TRUE(reply);
                if (!*reply) {
                    break;
                }
                codes.push_back((*reply)->code());
            }
        }
        EXPECT_THAT(codes, testing::ElementsAre(1, 0, reply::kReconfigured));
    }
}

TEST(BirdReply, ErrorsAndStrangers) {
    auto reply = parse("0002-Reading configuration from /x\n8002 /x:3:1 syntax error\n");
    EXPECT_EQ(reply.code(), reply::kConfigurationError);
    EXPECT_EQ(reply.message(), "/x:3:1 syntax error");
    ReplyParser parser;
    parser.feed("HTTP/1.1 400 Bad Request\n");
    EXPECT_FALSE(parser.next());
}

TEST(BirdControl, NobodyThere) {
    auto loop = EventLoop::create().value();
    BirdControl control(*loop, "/nonexistent/bird.ctl");
    ErrorKind kind = ErrorKind::Bug;
    control.request("show status", [&](Result<Reply> reply) {
        ASSERT_FALSE(reply);
        kind = reply.error().kind;
    });
    EXPECT_EQ(kind, ErrorKind::Unavailable);
}

TEST(BirdControl, AnswersInOrderSurvivesSilenceAndReconnects) {
    std::string path = "/tmp/manx-bgp-ctl-" + std::to_string(getpid());
    UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    unlink(path.c_str());
    ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(listen(listener.get(), 4), 0);
    // Answers two requests, keeps silent on the third; then serves a second client.
    std::thread server([&] {
        auto serve = [&](std::vector<std::string> answers) {
            UniqueFd client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
            auto say = [&](const std::string& text) {
                EXPECT_EQ(write(client.get(), text.data(), text.size()),
                          static_cast<ssize_t>(text.size()));
            };
            say("0001 BIRD 2.0.12 ready.\n");
            char buffer[256];
            for (const std::string& answer : answers) {
                EXPECT_GT(read(client.get(), buffer, sizeof buffer), 0);
                say(answer);
            }
            while (read(client.get(), buffer, sizeof buffer) > 0) {
            }
        };
        serve({kStatus, "0003 Reconfigured\n"});
        serve({"0013 Daemon is up and running\n"});
    });
    auto loop = EventLoop::create().value();
    BirdControl control(*loop, path);
    std::vector<std::string> seen;
    auto note = [&](Result<Reply> reply) {
        seen.push_back(reply ? std::to_string(reply->code()) : reply.error().text());
        if (seen.size() == 4) {
            loop->quit();
        }
    };
    control.request("show status", note);
    control.request("configure", note);
    control.request(
        "show protocols",
        [&](Result<Reply> reply) {
            note(std::move(reply));
            control.request("show status", note);
        },
        std::chrono::milliseconds(50));
    loop->run();
    EXPECT_THAT(seen, testing::ElementsAre("13", "3", testing::HasSubstr("does not answer"), "13"));
    control.reset();
    server.join();
    unlink(path.c_str());
}

} // namespace
} // namespace manx::bgp
