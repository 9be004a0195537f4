# retort_precompile(NAME LIKE target… [PIE] [QUICK]) makes cmake/precompiled/NAME.h into a precompiled header with the
# flags of those targets (QUICK: and of retort_compile_quickly), which everything that uses it must have too;
# retort_use_precompiled(target NAME) puts it before every source of a target.
#
# Not by target_precompile_headers: that makes one for every target (forty seconds each round), and clang-tidy, which
# reads compile_commands.json, takes GCC's file for its own and stops. Here the compiled header lies in a folder of its
# own, which GCC searches first; clang finds none beside the header and reads the header.
option(RETORT_PRECOMPILE "Precompile the headers that most sources share (GCC only)" ON)

function(retort_precompile name)
  cmake_parse_arguments(PCH "PIE;QUICK" "" "LIKE" ${ARGN})
  if(NOT RETORT_PRECOMPILE OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    return()
  endif()
  set(header "${CMAKE_SOURCE_DIR}/cmake/precompiled/${name}.h")
  set(output "${CMAKE_BINARY_DIR}/precompiled/${name}.h.gch")
  file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/precompiled")
  string(TOUPPER "${CMAKE_BUILD_TYPE}" config)
  separate_arguments(flags UNIX_COMMAND "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${config}}")
  if(PCH_QUICK)
    list(APPEND flags ${retort_quick_options})
  endif()
  set(position -fPIC)
  if(PCH_PIE)
    set(position -fPIE)
  endif()
  add_library(precompile_like_${name} INTERFACE)
  target_link_libraries(precompile_like_${name} INTERFACE ${PCH_LIKE})
  # Their own options, not by a generator expression: OpenMP's would ask for the language, which a custom command has not.
  set(options "")
  foreach(target retort_options ${PCH_LIKE})
    get_target_property(own ${target} INTERFACE_COMPILE_OPTIONS)
    if(own)
      list(APPEND options ${own})
    endif()
  endforeach()
  separate_arguments(openmp UNIX_COMMAND "${OpenMP_CXX_FLAGS}")
  set(definitions "$<TARGET_PROPERTY:precompile_like_${name},INTERFACE_COMPILE_DEFINITIONS>")
  add_custom_command(
    OUTPUT "${output}"
    COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} "${CMAKE_CXX_COMPILER}" ${flags} ${position} -std=c++20
      ${options} ${openmp} "$<$<BOOL:${definitions}>:-D$<JOIN:${definitions},;-D>>"
      -x c++-header -MD -MF "${output}.d" -MT "${output}" -c "${header}" -o "${output}"
    DEPENDS "${header}" "${CMAKE_SOURCE_DIR}/cmake/precompiled/parts.h"
    DEPFILE "${output}.d"
    COMMENT "Precompiling ${name}.h"
    COMMAND_EXPAND_LISTS VERBATIM)
  add_custom_target(precompiled_${name} DEPENDS "${output}")
endfunction()

function(retort_use_precompiled target name)
  if(NOT RETORT_PRECOMPILE OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    return()
  endif()
  # -fpch-preprocess tells ccache that a precompiled header takes part.
  target_compile_options(${target} PRIVATE -Winvalid-pch -fpch-preprocess "SHELL:-include ${name}.h"
    "-I${CMAKE_BINARY_DIR}/precompiled" "-I${CMAKE_SOURCE_DIR}/cmake/precompiled")
  add_dependencies(${target} precompiled_${name})
endfunction()
