// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/nft.h"

#include "base/unique_fd.h"

#include <fmt/format.h>

#include <nftables/libnftables.h>

namespace manx::dataplane {

Result<void> run_nft(std::string_view purpose, const std::string& commands) {
    UniqueHandle<nft_ctx, nft_ctx_free> nft(nft_ctx_new(NFT_CTX_DEFAULT));
    if (!nft || nft_ctx_buffer_error(nft.get()) != 0 || nft_ctx_buffer_output(nft.get()) != 0) {
        return fail(ErrorKind::Library, fmt::format("{}: nftables cannot be used", purpose));
    }
    if (nft_run_cmd_from_buffer(nft.get(), commands.c_str()) != 0) {
        return fail(ErrorKind::Library, fmt::format("{}: nftables refused: {}", purpose,
                                                    nft_ctx_get_error_buffer(nft.get())));
    }
    return {};
}

} // namespace manx::dataplane
