manx_test(ipam_block_test ipam_block_test.cpp LABEL unit LINK manx::ipam nlohmann_json::nlohmann_json)
manx_test(ipam_allocator_test ipam_allocator_test.cpp LABEL unit TIMEOUT 300
  LINK manx::ipam nlohmann_json::nlohmann_json fmt::fmt)
manx_test(ipam_crash_test ipam_crash_test.cpp LABEL unit TIMEOUT 300
  LINK manx::ipam nlohmann_json::nlohmann_json fmt::fmt)
manx_test(ipam_collector_test ipam_collector_test.cpp LABEL unit
  LINK manx::ipam nlohmann_json::nlohmann_json fmt::fmt)
manx_test(ipam_damage_test ipam_damage_test.cpp LABEL unit
  LINK manx::ipam nlohmann_json::nlohmann_json fmt::fmt)
manx_test(ipam_speed_test ipam_speed_test.cpp LABEL unit
  LINK manx::ipam nlohmann_json::nlohmann_json fmt::fmt)
manx_test(ipam_ctl_test ipam_ctl_test.cpp LABEL unit
  LINK manx::ctl manx::ipam nlohmann_json::nlohmann_json fmt::fmt)
manx_test(ipam_twin_test ipam_twin_test.cpp LABEL unit
  LINK manx::ipam nlohmann_json::nlohmann_json fmt::fmt)
target_compile_definitions(ipam_twin_test PRIVATE MANX_IPAM_DATA="${CMAKE_SOURCE_DIR}/tests/data/ipam")
manx_test(ipam_tunnels_test ipam_tunnels_test.cpp LABEL unit
  LINK manx::ipam nlohmann_json::nlohmann_json fmt::fmt)
