// Around code in AVX-512's intrinsics with VNNI and bf16 products, which the Highway of Debian 12 does not
// have: compiled for it wherever the program is built, called only where kernel_isa() says so. Include all
// else before RETORT_AVX512_BEGIN, or it would be compiled for AVX-512 too.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
// Clang's _Pragma takes one literal, however long.
// clang-format off
#define RETORT_AVX512_BEGIN \
    _Pragma("clang attribute push(__attribute__((target(\"avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma,avx2,f16c\"))), apply_to = function)")
// clang-format on
#define RETORT_AVX512_END _Pragma("clang attribute pop")
#else
// GCC 12's own headers begin from vectors that nothing was written to, and it warns of them (bug 105593).
#define RETORT_AVX512_BEGIN                                                                               \
    _Pragma("GCC push_options")                                                                           \
        _Pragma("GCC target(\"avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma,avx2,f16c\")") \
            _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wuninitialized\"")
#define RETORT_AVX512_END _Pragma("GCC diagnostic pop") _Pragma("GCC pop_options")
#endif
#endif
