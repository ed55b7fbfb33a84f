manx_test(ctl_test ctl_test.cpp LABEL unit LINK manx::ctl nlohmann_json::nlohmann_json)
