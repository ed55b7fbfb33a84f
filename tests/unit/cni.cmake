manx_test(cni_test cni_request_test.cpp cni_result_test.cpp cni_record_test.cpp LABEL unit
  LINK manx::cni)
manx_test(cni_plugin_test cni_plugin_test.cpp ${CMAKE_SOURCE_DIR}/agent/cni/plugin/json_scan.cpp
  LABEL unit LINK nlohmann_json::nlohmann_json)
