manx_test(ipam_block_test ipam_block_test.cpp LABEL unit LINK manx::ipam nlohmann_json::nlohmann_json)
