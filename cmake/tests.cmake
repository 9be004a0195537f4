# tests/PART/*.cpp make one GoogleTest program test_PART; fuzz/NAME.cpp makes fuzz_NAME, which without
# libFuzzer replays its corpus fuzz/corpus/NAME as a test.
find_package(GTest REQUIRED)
include(GoogleTest)

foreach(part base tensor formats text model generate data train api http store stats screen guard serve
        collect curate watermark audit evaluate release cli)
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/${part}/*.cpp")
  if(sources AND TARGET retort_${part})
    add_executable(test_${part} ${sources})
    target_link_libraries(test_${part} PRIVATE retort_${part} GTest::gtest GTest::gmock GTest::gtest_main)
    target_compile_definitions(test_${part} PRIVATE
      RETORT_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data" RETORT_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    set_target_properties(test_${part} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
    add_test(NAME unit.${part} COMMAND test_${part} --gtest_brief=1)
    # testing::TempDir() of its own, so that two builds on one machine test side by side.
    set(test_folder "${CMAKE_BINARY_DIR}/tests/scratch/${part}")
    file(MAKE_DIRECTORY "${test_folder}")
    set_tests_properties(unit.${part} PROPERTIES TIMEOUT 600 ENVIRONMENT "TEST_TMPDIR=${test_folder}/")
  endif()
endforeach()

file(GLOB fuzz_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/fuzz/fuzz_*.cpp")
foreach(source IN LISTS fuzz_sources)
  get_filename_component(name "${source}" NAME_WE)
  file(STRINGS "${source}" part_line REGEX "^// part: " LIMIT_COUNT 1)
  string(REGEX REPLACE "^// part: *" "" part "${part_line}")
  string(REPLACE "fuzz_" "" corpus "${name}")
  if(TARGET retort_${part})
    add_executable(${name} "${source}")
    target_link_libraries(${name} PRIVATE retort_${part})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/fuzz")
    list(APPEND fuzz_targets ${name})
    if(RETORT_LIBFUZZER)
      target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
      target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    else()
      target_sources(${name} PRIVATE "${CMAKE_SOURCE_DIR}/fuzz/replay_main.cpp")
    endif()
    add_test(NAME fuzz.${corpus} COMMAND ${name} "${CMAKE_SOURCE_DIR}/fuzz/corpus/${corpus}")
  endif()
endforeach()

if(fuzz_targets)
  add_custom_target(fuzz_targets DEPENDS ${fuzz_targets})
endif()

include(cmake/e2e.cmake)
