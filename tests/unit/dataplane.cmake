manx_test(masquerade_test masquerade_test.cpp LABEL unit LINK manx::dataplane)
