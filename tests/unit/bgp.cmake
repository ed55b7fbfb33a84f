manx_test(bgp_render_test
  bgp_render_test.cpp bgp_filter_test.cpp bgp_control_test.cpp bgp_objects_test.cpp
  LABEL unit LINK manx::bgp manx::api nlohmann_json::nlohmann_json yaml-cpp)
target_compile_definitions(bgp_render_test PRIVATE
  MANX_EXAMPLES="${CMAKE_SOURCE_DIR}/examples/wikikube-eqiad")
