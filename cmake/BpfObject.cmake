# bpf_object(NAME n SOURCE progs/x.bpf.c): compiles BPF C and generates <n>.skel.h with a skeleton
# struct <n>_bpf; the INTERFACE library <n>_skel gives its include folder.
find_program(BPF_CLANG NAMES clang-19 clang REQUIRED)
find_program(BPFTOOL NAMES bpftool PATHS /usr/sbin REQUIRED)
execute_process(COMMAND ${CMAKE_C_COMPILER} -print-multiarch
  OUTPUT_VARIABLE MULTIARCH OUTPUT_STRIP_TRAILING_WHITESPACE)

function(bpf_object)
  cmake_parse_arguments(ARG "" "NAME;SOURCE" "DEFINES" ${ARGN})
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${ARG_NAME})
  set(src ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_SOURCE})
  add_custom_command(
    OUTPUT ${out}.bpf.o
    COMMAND ${BPF_CLANG} -target bpf -g -O2 -mcpu=v3 -std=gnu11
      -Wall -Wextra -Werror -Wshadow -Wno-unused-parameter -Wno-address-of-packed-member
      ${ARG_DEFINES}
      -I${CMAKE_SOURCE_DIR} -I${CMAKE_SOURCE_DIR}/bpf -idirafter /usr/include/${MULTIARCH}
      -MD -MF ${out}.d -MT ${out}.bpf.o -c ${src} -o ${out}.bpf.o
    DEPENDS ${src}
    DEPFILE ${out}.d
    COMMENT "BPF ${ARG_NAME}" VERBATIM)
  add_custom_command(
    OUTPUT ${out}.skel.h
    COMMAND sh -c "${BPFTOOL} gen skeleton ${out}.bpf.o name ${ARG_NAME}_bpf > ${out}.skel.h"
    DEPENDS ${out}.bpf.o
    VERBATIM)
  add_custom_target(${ARG_NAME}_skel_gen DEPENDS ${out}.skel.h)
  add_library(${ARG_NAME}_skel INTERFACE)
  add_dependencies(${ARG_NAME}_skel ${ARG_NAME}_skel_gen)
  target_include_directories(${ARG_NAME}_skel SYSTEM INTERFACE ${CMAKE_CURRENT_BINARY_DIR})
  target_link_libraries(${ARG_NAME}_skel INTERFACE PkgConfig::libbpf)
endfunction()
