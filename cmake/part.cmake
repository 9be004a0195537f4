# retort_part(NAME USES part... LINKS library...)
#
# A part is a folder under src/, a static library retort_NAME and a namespace retort::NAME.
# Its headers are included as "NAME/header.h". The include root of a part is a folder that holds nothing
# but a link to that part, so an include of a part that is not linked does not compile.
function(retort_part name)
  cmake_parse_arguments(PART "" "" "USES;LINKS" ${ARGN})
  set(source_dir "${CMAKE_SOURCE_DIR}/src/${name}")
  if(NOT IS_DIRECTORY "${source_dir}")
    return()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS "${source_dir}/*.cpp")
  if(NOT sources)
    return()
  endif()
  set(include_root "${CMAKE_BINARY_DIR}/parts/${name}")
  file(MAKE_DIRECTORY "${include_root}")
  file(CREATE_LINK "${source_dir}" "${include_root}/${name}" SYMBOLIC)

  add_library(retort_${name} STATIC ${sources})
  target_include_directories(retort_${name} PUBLIC "${include_root}")
  target_link_libraries(retort_${name} PUBLIC retort_options)
  foreach(used IN LISTS PART_USES)
    if(TARGET retort_${used})
      target_link_libraries(retort_${name} PUBLIC retort_${used})
    endif()
  endforeach()
  target_link_libraries(retort_${name} PUBLIC ${PART_LINKS})
  set_property(GLOBAL APPEND PROPERTY retort_parts ${name})
endfunction()

add_library(retort_options INTERFACE)
target_compile_options(retort_options INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports these falsely in its own headers and in Boost at -O2 and above.
  target_compile_options(retort_options INTERFACE -Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow
    -Wno-array-bounds -Wno-free-nonheap-object -Wno-dangling-pointer)
endif()
target_link_libraries(retort_options INTERFACE Threads::Threads)
if(OpenMP_CXX_FOUND)
  target_link_libraries(retort_options INTERFACE OpenMP::OpenMP_CXX)
else()
  target_compile_options(retort_options INTERFACE -Wno-unknown-pragmas)
endif()
if(RETORT_SANITIZE)
  target_compile_options(retort_options INTERFACE -fsanitize=${RETORT_SANITIZE} -fno-omit-frame-pointer)
  if(RETORT_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(retort_options INTERFACE -Wno-tsan)  # Asio's fences, which it does not follow
  endif()
  if(RETORT_SANITIZE MATCHES "undefined")
    target_compile_options(retort_options INTERFACE -fno-sanitize-recover=undefined)
  endif()
  target_link_options(retort_options INTERFACE -fsanitize=${RETORT_SANITIZE})
endif()

# For sources in which a release spends no time, commands and tests: a third of the compile time less.
set(retort_quick_options "")
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  set(retort_quick_options -O1)
endif()
function(retort_compile_quickly target)
  target_compile_options(${target} PRIVATE ${retort_quick_options})
endfunction()
