# End-to-end tests: Python scripts (standard library only) that drive the real binary, tests/e2e/NAME_test.py as
# e2e.NAME. A test that needs a package from outside says so by exit status 77, and is then reported as skipped.
find_program(PYTHON3 python3)
if(NOT PYTHON3 OR NOT TARGET retort)
  message(STATUS "no end-to-end tests: python3 or the retort program is missing")
  return()
endif()

file(GLOB e2e_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/e2e/*_test.py")
foreach(source IN LISTS e2e_sources)
  get_filename_component(name "${source}" NAME_WE)
  string(REGEX REPLACE "_test$" "" name "${name}")
  add_test(NAME e2e.${name} COMMAND "${PYTHON3}" "${source}")
  set_tests_properties(e2e.${name} PROPERTIES TIMEOUT 900 SKIP_RETURN_CODE 77
    ENVIRONMENT "RETORT_BIN=$<TARGET_FILE:retort>;RETORT_BUILD=${CMAKE_BINARY_DIR};PYTHONDONTWRITEBYTECODE=1")
endforeach()
