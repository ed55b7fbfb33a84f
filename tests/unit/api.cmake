manx_test(api_test api_kinds_test.cpp api_names_test.cpp api_robustness_test.cpp LABEL unit LINK manx::api)
