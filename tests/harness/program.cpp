// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/program.h"

#include <bpf/bpf.h>

#include <linux/bpf.h>

namespace manx::harness {

Result<Outcome> run_program(int program_fd, const Bytes& packet, const Context& context,
                            uint32_t repeat) {
    __sk_buff ctx{};
    ctx.ifindex = context.ifindex;
    ctx.ingress_ifindex = context.ingress_ifindex;
    ctx.mark = context.mark;
    if (context.gso_size != 0) {
        ctx.gso_size = context.gso_size;
        ctx.gso_segs = static_cast<uint32_t>(packet.size() / context.gso_size + 1);
    }
    Outcome outcome;
    outcome.packet.resize(packet.size() + 256);
    bpf_test_run_opts options{};
    options.sz = sizeof(options);
    options.data_in = packet.data();
    options.data_size_in = static_cast<uint32_t>(packet.size());
    options.data_out = outcome.packet.data();
    options.data_size_out = static_cast<uint32_t>(outcome.packet.size());
    options.ctx_in = &ctx;
    options.ctx_size_in = sizeof(ctx);
    options.ctx_out = &ctx;
    options.ctx_size_out = sizeof(ctx);
    options.repeat = static_cast<int>(repeat);
    if (bpf_prog_test_run_opts(program_fd, &options) < 0) {
        return fail_errno("run the program");
    }
    outcome.verdict = static_cast<int>(options.retval);
    outcome.mark = ctx.mark;
    outcome.packet.resize(options.data_size_out);
    outcome.duration = std::chrono::nanoseconds(options.duration);
    return outcome;
}

} // namespace manx::harness
