# manx_test(NAME sources... LABEL unit|bpf|netns [LINK targets...] [TIMEOUT s]): a GoogleTest
# binary; each of its cases is a ctest test of its own. A case that calls GTEST_SKIP is reported
# by ctest as skipped.
include(GoogleTest OPTIONAL)
function(manx_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "LINK" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE manx_flags ${ARG_LINK} GTest::gtest GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} TEST_PREFIX "${ARG_LABEL}." DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${ARG_LABEL}" TIMEOUT ${ARG_TIMEOUT} SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endfunction()
