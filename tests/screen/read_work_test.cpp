// Works read as text: what a reader sees, in the order of reading, and errors for what cannot be read. The
// files are the seeds of the fuzz targets (fuzz/make_seeds.py).
#include "screen/read_work.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

#include "base/file.h"
#include "screen/words.h"

namespace retort::screen {
namespace {

std::string seed(const std::string& name) {
    auto bytes = base::read_file(std::string(RETORT_SOURCE_DIR) + "/fuzz/corpus/" + name);
    EXPECT_TRUE(bytes) << bytes.error().message;
    return bytes.value_or("");
}

std::string text_of(std::string_view bytes, std::string_view format) {
    auto text = extract_text(bytes, format, "work");
    EXPECT_TRUE(text) << text.error().message;
    return text.value_or("");
}

std::vector<Word> words_of(std::string_view text) {
    Words words;
    EXPECT_TRUE(split_words(text, words));
    return words.ids;
}

TEST(ReadWork, HtmlIsWhatIsSeen) {
    EXPECT_EQ(
        text_of(seed("html/page.html"), "html"),
        "Of whales\nCall me Ishmael. It is caf\u00e9 \u2014 time.\none\ntwo\nleft\nright\nline\nbreak\n");
}

TEST(ReadWork, HtmlInItsDeclaredEncoding) {
    EXPECT_EQ(words_of(text_of(seed("html/latin1.html"), "html")), words_of("d\u00e9j\u00e0 vu"));
    // Without a declaration it is UTF-8.
    EXPECT_EQ(words_of(text_of("<p>d\u00e9j\u00e0 vu", "html")), words_of("d\u00e9j\u00e0 vu"));
}

TEST(ReadWork, HtmlThatIsBrokenIsReadAllTheSame) {
    EXPECT_EQ(words_of(text_of(seed("html/deep.html"), "html")), words_of("deep"));
    EXPECT_EQ(words_of(text_of("<p>one <b>two</p> three</i> <<4 &nosuch; five", "html")).size(), 6U);
    EXPECT_EQ(text_of(" \n", "html"), "");
    EXPECT_EQ(text_of("", "html"), "");
}

TEST(ReadWork, EpubInTheOrderOfItsSpine) {
    EXPECT_EQ(text_of(seed("epub/book.epub"), "epub"),
              "One\nIt begins in one chapter & goes on\n\nTwo\nand ends in the other.\n\n");
}

TEST(ReadWork, AChapterThatIsNoXmlIsReadAsHtml) {
    EXPECT_EQ(words_of(text_of(seed("epub/broken.epub"), "epub")),
              words_of("One It begins in one chapter & goes on unclosed and deep"));
}

TEST(ReadWork, EpubErrorsNameWhatIsMissing) {
    const auto none = extract_text("no zip", "epub", "a.epub");
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().message.find("a.epub"), std::string::npos) << none.error().message;
    const auto other = extract_text(seed("zip/stored.zip"), "epub", "b.epub");
    ASSERT_FALSE(other);
    EXPECT_NE(other.error().message.find("META-INF/container.xml"), std::string::npos)
        << other.error().message;
}

TEST(ReadWork, PdfPageByPage) {
    const std::string text = text_of(seed("pdf/two_pages.pdf"), "pdf");
    // The hyphen at a line's end does not part a word, whether Poppler or the words' own rule takes it away.
    EXPECT_EQ(words_of(text),
              words_of("It begins on one page and has an example of a line s end It ends here"))
        << text;
}

TEST(ReadWork, PdfThatAsksForAPasswordIsRefused) {
    const auto text = extract_text(seed("pdf/locked.pdf"), "pdf", "locked.pdf");
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().code, ErrorCode::refused) << text.error().message;
    EXPECT_FALSE(extract_text("%PDF-1.4 nothing more", "pdf", "stub.pdf"));
}

TEST(ReadWork, MarkdownWithoutItsMarks) {
    EXPECT_EQ(words_of(text_of("# Of *whales*\n\nCall [me](http://unseen.example \"unseen\") `Ish`mael\n"
                               "and go on.\n\n```\ncode stays\n```\n<b>",
                               "markdown")),
              words_of("Of whales Call me Ishmael and go on code stays"));
}

TEST(ReadWork, PlainTextWithAByteOrderMarkAndWithoutZeroes) {
    EXPECT_EQ(text_of(std::string("\xFF\xFE"
                                  "a\0\xE9\0\x3D\xD8\x00\xDE",
                                  10),
                      "text"),
              "a\u00e9\U0001F600");
    EXPECT_EQ(text_of(std::string("\xFE\xFF\0a\0\xE9", 6), "text"), "a\u00e9");
    EXPECT_FALSE(extract_text(std::string_view("a\0b", 3), "text", "binary"));
}

TEST(ReadWork, TheBytesDecideBeforeTheName) {
    EXPECT_EQ(format_of("x.txt", seed("pdf/two_pages.pdf")), "pdf");
    EXPECT_EQ(format_of("x", seed("epub/book.epub")), "epub");
    EXPECT_EQ(format_of("X.HTM", "<p>"), "html");
    EXPECT_EQ(format_of("x.md", "#"), "markdown");
    EXPECT_EQ(format_of("x", "words"), "text");
}

std::string packed(std::string_view text) {
    z_stream stream{};
    EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    std::string out(deflateBound(&stream, static_cast<uLong>(text.size())), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
    out.resize(out.size() - stream.avail_out);
    deflateEnd(&stream);
    return out;
}

TEST(ReadWork, GzipIsUnpackedAndThenReadAsWhatItIs) {
    std::string text;
    for (int i = 0; i < 200000; ++i) text += "word" + std::to_string(i) + " ";
    auto read = read_text("doc/changes.txt.gz", packed(text));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->format, "text");
    EXPECT_EQ(read->text, text);
    read = read_text("page.html.gz", packed("<p>one <b>two</b>"));
    ASSERT_TRUE(read);
    EXPECT_EQ(read->format, "html");
    EXPECT_EQ(words_of(read->text), words_of("one two"));
    // Members one after another, as dictzip writes and as logs are put together.
    read = read_text("dictionary.dz", packed("one ") + packed("two"));
    ASSERT_TRUE(read);
    EXPECT_EQ(read->text, "one two");
    // Without the ending it is gzip all the same, and without gzip the ending says nothing.
    EXPECT_EQ(read_text("README", packed("three"))->text, "three");
    EXPECT_EQ(read_text("plain.gz", "four")->text, "four");
}

TEST(ReadWork, GzipThatIsBrokenOrTooMuchIsAnError) {
    const std::string whole = packed(std::string(100000, 'x') + "end");
    for (const std::size_t length :
         {whole.size() - 1, whole.size() - 9, whole.size() / 2, std::size_t{10}, std::size_t{3}}) {
        const auto read = read_text("x.gz", std::string_view(whole).substr(0, length));
        ASSERT_FALSE(read) << length;
        EXPECT_NE(read.error().message.find("x.gz"), std::string::npos);
    }
    std::string changed = whole;
    changed[changed.size() - 6] = static_cast<char>(changed[changed.size() - 6] ^ 1);  // of its checksum
    EXPECT_FALSE(read_text("x.gz", changed));
    EXPECT_FALSE(unpack_gzip(whole, 100002));
    EXPECT_TRUE(unpack_gzip(whole, 100003));
    EXPECT_FALSE(read_text("x.gz", packed(std::string("a\0b", 3)))) << "no text";
}

TEST(ReadWork, ManualPagesAsTheyAreRead) {
    const std::string page =
        ".\\\" a comment\n.TH LS 1 \"June 2022\"\n.SH NAME\nls \\- list directory contents\n"
        ".SH SYNOPSIS\n.B ls\n[\\fI\\,OPTION\\/\\fR]... [\\fIFILE\\fR]\n.PP\n"
        "List \\(lqinformation\\(rq about the FILEs\\*(dg (the\ncurrent directory).\n"
        ".TP\n\\fB\\-a\\fR, \\fB\\-\\-all\\fR\ndo not ignore \\s-1SIZE\\s0 entries\n"
        ".de XX\n.B hidden\n..\n.IP \"first point\" 4\n.BR printf (3),\n.if t .B typeset\n"
        ".BI \\-\\-colour= \"when it is\"\nend\\&ing.\n";
    const auto read = read_text("man1/ls.1.gz", packed(page));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->format, "man");
    EXPECT_EQ(
        words_of(read->text),
        words_of(
            "NAME ls - list directory contents SYNOPSIS ls [OPTION]... [FILE] List information about the "
            "FILEs (the current directory). -a, --all do not ignore SIZE entries first point printf(3), "
            "--colour=when it is ending."));
    EXPECT_EQ(words_of(man_text(".Dd May 1\n.Sh NAME\n.Nm cat\n.Op Fl benstuv\n.Ar file ...\n")),
              words_of("NAME cat benstuv file"));
    EXPECT_EQ(read_text("chapter.1", "Nothing of the sort\n")->format, "text");
    (void)man_text(".\n'\n.B\n\\\n\\f\n\\(\n\\[\n\\h'\n.B \"");  // cut short everywhere
}

}  // namespace
}  // namespace retort::screen
