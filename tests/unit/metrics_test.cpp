// SPDX-License-Identifier: Apache-2.0
#include "agent/metrics/http_server.h"
#include "agent/metrics/registry.h"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <thread>
#include <unistd.h>

namespace manx::metrics {
namespace {

TEST(Registry, SamplesOfOneFamilyStandTogether) {
    Registry registry;
    registry.add([](Registry::Families& out) {
        gauge(out, "manx_flows", "Flows.", 3, {{"family", "4"}});
        counter(out, "manx_drops_total", "Drops.", 7);
        gauge(out, "manx_flows", "Flows.", 4, {{"family", "6"}});
    });
    EXPECT_EQ(registry.text(), "# HELP manx_flows Flows.\n"
                               "# TYPE manx_flows gauge\n"
                               "manx_flows{family=\"4\"} 3\n"
                               "manx_flows{family=\"6\"} 4\n"
                               "# HELP manx_drops_total Drops.\n"
                               "# TYPE manx_drops_total counter\n"
                               "manx_drops_total 7\n");
}

std::string ask(const std::string& path, const std::string& request) {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
        return "no connection";
    }
    (void)!write(fd.get(), request.data(), request.size());
    std::string answer;
    char buf[512];
    for (ssize_t n = 0; (n = read(fd.get(), buf, sizeof buf)) > 0;) {
        answer.append(buf, static_cast<size_t>(n));
    }
    return answer;
}

TEST(HttpServer, AnswersOnAUnixSocketAndRefusesWhatItDoesNotKnow) {
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    std::string path = testing::TempDir() + "manx-http-" + std::to_string(getpid()) + ".sock";
    auto fd = listen_unix(path);
    ASSERT_TRUE(fd) << fd.error().text();
    auto server = HttpServer::create(**loop, std::move(*fd));
    ASSERT_TRUE(server) << server.error().text();
    (*server)->handle("/status", [](const std::string&) { return HttpResponse{.body = "fine"}; });
    EXPECT_FALSE(listen_unix(path)) << "a second listener must not take the socket over";

    std::string good;
    std::string missing;
    std::string post;
    std::thread client([&] {
        good = ask(path, "GET /status HTTP/1.0\r\n\r\n");
        missing = ask(path, "GET /nothing HTTP/1.0\r\n\r\n");
        post = ask(path, "POST /status HTTP/1.0\r\nContent-Length: 2\r\n\r\nab");
        (*loop)->post([&] { (*loop)->quit(); });
    });
    auto guard = (*loop)->add_timer(std::chrono::seconds(10), [&] { (*loop)->quit(1); });
    EXPECT_EQ((*loop)->run(), 0);
    client.join();
    (void)unlink(path.c_str());
    EXPECT_NE(good.find("200 OK"), std::string::npos) << good;
    EXPECT_TRUE(good.ends_with("fine")) << good;
    EXPECT_NE(missing.find("404"), std::string::npos) << missing;
    EXPECT_NE(post.find("405"), std::string::npos) << post;
}

} // namespace
} // namespace manx::metrics
