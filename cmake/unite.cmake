# retort_unite(target N): N sources of a target are compiled as one. What their headers emit (CLI11, Boost.Beast,
# nlohmann-json, GoogleTest) is then compiled once for N sources: the program's commands take a quarter of the time.
# Names in anonymous namespaces must differ within a target for that. Each source still includes all that it uses: the
# debug preset and clang-tidy read them one by one.
option(RETORT_UNITE "Compile several sources as one where that is quicker" ON)

function(retort_unite target count)
  if(RETORT_UNITE)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${count})
    # What a struct of one source holds of another source's anonymous namespace is, in one file, a type without linkage
    # in something that GCC takes for an included header.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
endfunction()
