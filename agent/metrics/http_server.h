// SPDX-License-Identifier: Apache-2.0
// HTTP on the agent's own loop: metrics, health and status. GET only; answers are made at once.
//
// Threading: everything on the loop's thread. Failure: a request that cannot be answered is closed.
#pragma once

#include "base/event_loop.h"
#include "base/result.h"

#include <functional>
#include <map>
#include <memory>
#include <string>

struct MHD_Daemon;

namespace manx::metrics {

struct HttpResponse {
    unsigned status = 200;
    std::string content_type = "text/plain; charset=utf-8";
    std::string body;
};

class HttpServer {
public:
    using Handler = std::function<HttpResponse(const std::string& path)>;

    // listen_fd: a listening stream socket, TCP or unix.
    static Result<std::unique_ptr<HttpServer>> create(EventLoop& loop, UniqueFd listen_fd);
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;
    ~HttpServer();

    void handle(const std::string& path, Handler handler);
    [[nodiscard]] HttpResponse respond(const std::string& method, const std::string& path) const;

private:
    explicit HttpServer(EventLoop& loop) : loop_(loop) {}

    void turn();

    EventLoop& loop_;
    MHD_Daemon* daemon_ = nullptr;
    std::map<std::string, Handler> handlers_;
    EventSource io_;
    EventSource timer_;
};

// Error names the address and port.
Result<UniqueFd> listen_tcp(const std::string& address, uint16_t port);
// Replaces a socket file that nobody listens on; mode 0600.
Result<UniqueFd> listen_unix(const std::string& path);

} // namespace manx::metrics
