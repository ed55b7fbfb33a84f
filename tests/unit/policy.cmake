manx_test(policy_selector_test ${CMAKE_CURRENT_LIST_DIR}/policy_selector_test.cpp LABEL unit LINK manx::api)
manx_test(policy_kinds_test ${CMAKE_CURRENT_LIST_DIR}/policy_kinds_test.cpp LABEL unit LINK manx::api)
