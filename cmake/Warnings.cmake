# manx_flags: what every target of ours is compiled with; link it PRIVATE.
add_library(manx_flags INTERFACE)
target_compile_options(manx_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-qual
  -Wunused -Woverloaded-virtual -Wnull-dereference -Wextra-semi -fno-omit-frame-pointer
  $<$<CONFIG:RelWithDebInfo>:-fstack-protector-strong -D_FORTIFY_SOURCE=2>)
target_include_directories(manx_flags INTERFACE ${CMAKE_SOURCE_DIR})
if(MANX_SANITIZE)
  target_compile_options(manx_flags INTERFACE -fsanitize=${MANX_SANITIZE})
  target_link_options(manx_flags INTERFACE -fsanitize=${MANX_SANITIZE})
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports false positives of these in the libraries' inlined code.
  target_compile_options(manx_flags INTERFACE
    -Wno-null-dereference -Wno-maybe-uninitialized -Wno-restrict)
endif()
if(MANX_TIDY)
  find_program(CLANG_TIDY NAMES clang-tidy-19 REQUIRED)
  set(CMAKE_CXX_CLANG_TIDY ${CLANG_TIDY})
endif()

# manx_library(NAME sources... [LINK targets...]): a static library manx::NAME, one per folder.
function(manx_library name)
  cmake_parse_arguments(ARG "" "" "LINK;PRIVATE_LINK" ${ARGN})
  add_library(manx_${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  add_library(manx::${name} ALIAS manx_${name})
  target_include_directories(manx_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(manx_${name} PUBLIC ${ARG_LINK} PRIVATE manx_flags ${ARG_PRIVATE_LINK})
endfunction()
