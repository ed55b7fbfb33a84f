manx_test(base_test base_test.cpp LABEL unit LINK manx::base)
