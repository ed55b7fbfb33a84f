manx_test(api_test api_names_test.cpp LABEL unit LINK manx::api)
