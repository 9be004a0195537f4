// Boost.Beast's HTTP, without its assertions. One of them is wrong: it holds that the header of a last chunk
// has five bytes at least, and "0\r\n", "\r" and "\n" sent apart have fewer (found by fuzz_http_request). A
// peer must not be able to end the program, and the code after that assertion is right without it. Private to
// this part.
#pragma once

#ifndef BOOST_DISABLE_ASSERTS
#define BOOST_DISABLE_ASSERTS
#define RETORT_DISABLED_ASSERTS
#endif
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#ifdef RETORT_DISABLED_ASSERTS
#undef BOOST_DISABLE_ASSERTS
#undef RETORT_DISABLED_ASSERTS
#endif
