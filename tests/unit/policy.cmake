manx_test(policy_selector_test ${CMAKE_CURRENT_LIST_DIR}/policy_selector_test.cpp LABEL unit LINK manx::api)
manx_test(policy_kinds_test ${CMAKE_CURRENT_LIST_DIR}/policy_kinds_test.cpp LABEL unit LINK manx::api)
manx_test(policy_last_good_test ${CMAKE_CURRENT_LIST_DIR}/policy_last_good_test.cpp LABEL unit
  LINK manx::policy_testing fmt::fmt)
manx_test(rule_registry_test ${CMAKE_CURRENT_LIST_DIR}/rule_registry_test.cpp LABEL unit
  LINK manx::calc)
manx_test(not_enforced_test ${CMAKE_CURRENT_LIST_DIR}/not_enforced_test.cpp LABEL unit
  LINK manx::app manx::policy_testing fmt::fmt)
manx_test(policy_property_test ${CMAKE_CURRENT_LIST_DIR}/policy_property_test.cpp LABEL unit
  TIMEOUT 300 LINK manx::policy_testing fmt::fmt)
manx_test(policy_moments_test ${CMAKE_CURRENT_LIST_DIR}/policy_moments_test.cpp LABEL unit
  TIMEOUT 300 LINK manx::policy_testing fmt::fmt)
manx_test(policy_tables_test ${CMAKE_CURRENT_LIST_DIR}/policy_tables_test.cpp LABEL unit
  LINK manx::policy_testing fmt::fmt)
manx_test(policy_storm_test ${CMAKE_CURRENT_LIST_DIR}/policy_storm_test.cpp LABEL unit
  TIMEOUT 300 LINK manx::policy_testing fmt::fmt)
manx_test(policy_ports_test ${CMAKE_CURRENT_LIST_DIR}/policy_ports_test.cpp LABEL unit
  LINK manx::policy_testing fmt::fmt)
manx_test(policy_locals_test ${CMAKE_CURRENT_LIST_DIR}/policy_locals_test.cpp LABEL unit
  LINK manx::policy_testing fmt::fmt)
# Its time is the compiler's, in JSON literals.
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/policy_property_test.cpp PROPERTIES COMPILE_OPTIONS "-O0;-U_FORTIFY_SOURCE")
