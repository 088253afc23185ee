// Reading a trace line by line: compression, and everything that can be wrong with a file.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lzma.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "tools/kmem/trace/ftrace.hpp"
#include "tools/kmem/trace/input.hpp"

namespace kmem::tool::trace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

std::string xz(const std::string& text) {
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  std::size_t length = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, nullptr, reinterpret_cast<const std::uint8_t*>(text.data()), text.size(),
                                    reinterpret_cast<std::uint8_t*>(out.data()), &length, out.size()),
            LZMA_OK);
  out.resize(length);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  const std::size_t length = ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3);
  EXPECT_EQ(ZSTD_isError(length), 0u);
  out.resize(length);
  return out;
}

std::span<const std::uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

struct reading {
  std::vector<std::string> lines;
  std::vector<trace_error> bad_lines;
  bool failed = false;
  trace_error failure;
};

reading read_all(input& from) {
  reading result;
  for (;;) {
    switch (from.next()) {
      case input::status::line:
        result.lines.emplace_back(from.line());
        break;
      case input::status::bad_line:
        result.bad_lines.push_back(from.error());
        break;
      case input::status::end:
        return result;
      case input::status::failed:
        result.failed = true;
        result.failure = from.error();
        return result;
    }
  }
}

reading read_memory(const std::string& bytes) {
  input from;
  EXPECT_TRUE(from.open_memory("memory", bytes_of(bytes))) << from.error().to_string();
  return read_all(from);
}

std::string open_error(const std::string& bytes) {
  input from;
  EXPECT_FALSE(from.open_memory("some.trace", bytes_of(bytes)));
  return from.error().to_string();
}

class temporary_directory {
 public:
  temporary_directory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kmem-trace-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~temporary_directory() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name, const std::string& content) const {
    const std::string path = path_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Long enough to need several refills of every buffer.
std::string many_lines(std::size_t count) {
  std::string text;
  for (std::size_t line = 0; line < count; line++)
    text += "line number " + std::to_string(line * 7919) + std::string(line % 300, 'x') + "\n";
  return text;
}

TEST(trace_input, lines_come_without_their_ends) {
  EXPECT_THAT(read_memory("one\ntwo\r\n\nfour").lines, ElementsAre("one", "two", "", "four"));
  EXPECT_THAT(read_memory("\n").lines, ElementsAre(""));
  EXPECT_THAT(read_memory("one").lines, ElementsAre("one"));
}

TEST(trace_input, line_numbers_count_from_one) {
  const std::string text = "a\nb\n";
  input from;
  ASSERT_TRUE(from.open_memory("memory", bytes_of(text)));
  ASSERT_EQ(from.next(), input::status::line);
  EXPECT_EQ(from.line_number(), 1u);
  ASSERT_EQ(from.next(), input::status::line);
  EXPECT_EQ(from.line_number(), 2u);
  EXPECT_EQ(from.next(), input::status::end);
  EXPECT_EQ(from.next(), input::status::end);
}

TEST(trace_input, each_compression_gives_the_same_lines) {
  const std::string text = many_lines(8000);
  const reading plain = read_memory(text);
  ASSERT_EQ(plain.lines.size(), 8000u);
  EXPECT_EQ(read_memory(gzip(text)).lines, plain.lines);
  EXPECT_EQ(read_memory(xz(text)).lines, plain.lines);
  EXPECT_EQ(read_memory(zstd(text)).lines, plain.lines);
}

TEST(trace_input, compression_is_known_by_content_not_by_name) {
  const temporary_directory directory;
  for (const auto& [name, content, expected] : std::vector<std::tuple<std::string, std::string, std::string>>{
           {"a.zst", gzip("x\ny\n"), "gzip"}, {"b.txt", xz("x\ny\n"), "xz"}, {"c", zstd("x\ny\n"), "zstd"}, {"d.xz", "x\ny\n", "none"}}) {
    input from;
    ASSERT_TRUE(from.open(directory.file(name, content))) << from.error().to_string();
    EXPECT_EQ(compression_name(from.kind()), expected);
    EXPECT_EQ(from.bytes_total(), content.size());
    EXPECT_THAT(read_all(from).lines, ElementsAre("x", "y"));
    EXPECT_EQ(from.bytes_read(), content.size());
  }
}

TEST(trace_input, archives_may_follow_each_other) {
  EXPECT_THAT(read_memory(gzip("a\n") + gzip("b\n")).lines, ElementsAre("a", "b"));
  EXPECT_THAT(read_memory(xz("a\n") + xz("b\n")).lines, ElementsAre("a", "b"));
  EXPECT_THAT(read_memory(zstd("a\n") + zstd("b\n")).lines, ElementsAre("a", "b"));
  EXPECT_THAT(read_memory(gzip("a\n") + std::string(512, '\0')).lines, ElementsAre("a"));
}

TEST(trace_input, file_is_read_in_pieces) {
  const temporary_directory directory;
  const std::string text = many_lines(8000);
  for (const std::string& content : {text, gzip(text), xz(text), zstd(text)}) {
    input from;
    ASSERT_TRUE(from.open(directory.file("trace", content)));
    EXPECT_EQ(read_all(from).lines.size(), 8000u);
    EXPECT_EQ(from.line_number(), 8000u);
  }
}

TEST(trace_input, standard_input_can_be_a_pipe) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const std::string content = zstd("from\na pipe\n");
  ASSERT_EQ(::write(ends[1], content.data(), content.size()), static_cast<ssize_t>(content.size()));
  ::close(ends[1]);
  const int saved = ::dup(STDIN_FILENO);
  ::dup2(ends[0], STDIN_FILENO);
  ::close(ends[0]);
  {
    input from;
    EXPECT_TRUE(from.open("-"));
    EXPECT_EQ(from.name(), "standard input");
    EXPECT_EQ(from.bytes_total(), 0u);
    EXPECT_THAT(read_all(from).lines, ElementsAre("from", "a pipe"));
  }
  EXPECT_GE(::fcntl(STDIN_FILENO, F_GETFD), 0) << "standard input must stay open";
  if (saved >= 0) {
    ::dup2(saved, STDIN_FILENO);
    ::close(saved);
  } else {
    ::close(STDIN_FILENO);
  }
}

TEST(trace_input, missing_file_is_reported) {
  input from;
  EXPECT_FALSE(from.open("/nonexistent/some.trace"));
  EXPECT_EQ(from.error().file, "/nonexistent/some.trace");
  EXPECT_THAT(from.error().to_string(), HasSubstr("/nonexistent/some.trace: cannot be opened: No such file or directory"));
  EXPECT_EQ(from.next(), input::status::failed);
}

TEST(trace_input, directory_is_reported) {
  const temporary_directory directory;
  input from;
  EXPECT_FALSE(from.open(directory.path()));
  EXPECT_THAT(from.error().to_string(), HasSubstr("is a directory"));
  EXPECT_THAT(from.error().to_string(), HasSubstr("name a file in it"));
}

TEST(trace_input, unreadable_file_is_reported) {
  // A superuser may read every file, but nobody may read a file of pages that are not there.
  if (::geteuid() == 0) {
    input from;
    EXPECT_FALSE(from.open("/proc/self/mem"));
    EXPECT_THAT(from.error().to_string(), HasSubstr("/proc/self/mem: cannot be read: Input/output error"));
    return;
  }
  const temporary_directory directory;
  const std::string path = directory.file("locked", "text\n");
  ASSERT_EQ(::chmod(path.c_str(), 0), 0);
  input from;
  EXPECT_FALSE(from.open(path));
  EXPECT_THAT(from.error().to_string(), HasSubstr("cannot be opened: Permission denied"));
  EXPECT_THAT(from.error().to_string(), HasSubstr("make it readable"));
}

TEST(trace_input, empty_file_is_reported) {
  const temporary_directory directory;
  input from;
  EXPECT_FALSE(from.open(directory.file("empty", "")));
  EXPECT_THAT(from.error().to_string(), HasSubstr("empty: is empty"));
  EXPECT_THAT(open_error(""), HasSubstr("is empty"));
}

TEST(trace_input, truncated_archive_is_reported_after_its_lines) {
  const std::string text = many_lines(8000);
  for (const auto& [content, name] : {std::pair(gzip(text), "gzip"), std::pair(xz(text), "xz"), std::pair(zstd(text), "zstd")}) {
    const reading result = read_memory(content.substr(0, content.size() / 2));
    EXPECT_TRUE(result.failed) << name;
    EXPECT_THAT(result.failure.to_string(), HasSubstr(std::string("is a truncated ") + name + " archive"));
    EXPECT_THAT(result.failure.to_string(), HasSubstr("--keep-going"));
    EXPECT_EQ(result.failure.line, result.lines.size() + 1) << name;
    EXPECT_GT(result.lines.size(), 0u) << name;
    EXPECT_LT(result.lines.size(), 8000u) << name;
    const reading whole = read_memory(text);
    for (std::size_t line = 0; line < result.lines.size(); line++) ASSERT_EQ(result.lines[line], whole.lines[line]) << name;
  }
}

TEST(trace_input, archive_cut_anywhere_is_truncated) {
  const std::string text = "some text\nof a few lines\nin an archive\n";
  for (const std::string& content : {gzip(text), xz(text), zstd(text)}) {
    for (std::size_t length = 6; length < content.size(); length++) {
      const reading result = read_memory(content.substr(0, length));
      EXPECT_TRUE(result.failed) << length << " of " << content.size();
      EXPECT_THAT(result.failure.to_string(), HasSubstr("truncated"));
    }
  }
}

TEST(trace_input, damaged_archive_is_reported) {
  const std::string text = many_lines(8000);
  for (const auto& [content, name] : {std::pair(gzip(text), "gzip"), std::pair(xz(text), "xz"), std::pair(zstd(text), "zstd")}) {
    std::string damaged = content;
    for (std::size_t at = damaged.size() / 2; at < damaged.size() / 2 + 64; at++) damaged[at] = static_cast<char>(damaged[at] ^ 0x5a);
    const reading result = read_memory(damaged);
    EXPECT_TRUE(result.failed) << name;
    EXPECT_THAT(result.failure.to_string(), HasSubstr(std::string("is a damaged ") + name + " archive: ")) << name;
    EXPECT_GT(result.failure.line, 0u) << name;
  }
}

TEST(trace_input, garbage_after_an_archive_is_reported) {
  for (const std::string& content : {gzip("a\n"), xz("a\n"), zstd("a\n")}) {
    const reading result = read_memory(content + "garbage that is no archive");
    EXPECT_TRUE(result.failed);
    EXPECT_THAT(result.failure.to_string(), HasSubstr("damaged"));
    EXPECT_THAT(result.lines, ElementsAre("a"));
  }
}

TEST(trace_input, other_formats_are_named) {
  EXPECT_THAT(open_error(std::string("\x17\x08\x44tracing6\0", 12)), HasSubstr("trace-cmd report -i trace.dat"));
  EXPECT_THAT(open_error("PERFILE2........"), HasSubstr("perf.data"));
  EXPECT_THAT(open_error("BZh91AY&SY"), HasSubstr("is a bzip2 archive"));
  EXPECT_THAT(open_error("\x04\x22\x4d\x18...."), HasSubstr("is an lz4 archive"));
  EXPECT_THAT(open_error("PK\x03\x04...."), HasSubstr("is a zip archive"));
  EXPECT_THAT(open_error("\x7f"
                         "ELF"),
              HasSubstr("is a program"));
}

TEST(trace_input, nul_bytes_are_a_bad_line) {
  const reading result = read_memory(std::string("good\nba\0d\ngood again\n", 21));
  EXPECT_THAT(result.lines, ElementsAre("good", "good again"));
  ASSERT_EQ(result.bad_lines.size(), 1u);
  EXPECT_EQ(result.bad_lines[0].line, 2u);
  EXPECT_EQ(result.bad_lines[0].column, 3u);
  EXPECT_THAT(result.bad_lines[0].to_string(), HasSubstr("memory:2:3: a NUL byte"));
  EXPECT_THAT(result.bad_lines[0].to_string(), HasSubstr("ba\\x00d"));
}

TEST(trace_input, overlong_line_is_a_bad_line_and_is_skipped_whole) {
  const std::string longest(input::max_line_bytes, 'a');
  EXPECT_THAT(read_memory(longest + "\nb\n").lines, ElementsAre(longest, "b"));
  for (const std::size_t length : {input::max_line_bytes + 1, 3 * input::max_line_bytes, 9 * input::max_line_bytes}) {
    const reading result = read_memory("a\n" + std::string(length, 'x') + "\nb\n");
    EXPECT_THAT(result.lines, ElementsAre("a", "b")) << length;
    ASSERT_EQ(result.bad_lines.size(), 1u);
    EXPECT_EQ(result.bad_lines[0].line, 2u);
    EXPECT_THAT(result.bad_lines[0].to_string(), HasSubstr("a line of more than 65536 bytes"));
    EXPECT_LT(result.bad_lines[0].to_string().size(), 600u);
  }
  const reading endless = read_memory(std::string(9 * input::max_line_bytes, 'x'));
  EXPECT_EQ(endless.bad_lines.size(), 1u);
  EXPECT_TRUE(endless.lines.empty());
}

TEST(trace_input, archive_that_grows_without_end_takes_no_more_memory) {
  const std::string bomb = zstd(std::string(std::size_t{64} << 20, 'x'));
  ASSERT_LT(bomb.size(), 16384u);
  const reading result = read_memory(bomb);
  EXPECT_EQ(result.bad_lines.size(), 1u);
  EXPECT_FALSE(result.failed);
}

TEST(trace_input, random_bytes_end_in_an_error) {
  std::string bytes(100000, '\0');
  std::uint32_t random = 1;
  for (char& each : bytes) {
    random = random * 1664525 + 1013904223;
    each = static_cast<char>(random >> 24);
  }
  const temporary_directory directory;
  event_list list;
  EXPECT_FALSE(load_events(directory.file("random", bytes), {}, list));
  ASSERT_EQ(list.errors.size(), 1u);
  EXPECT_EQ(list.errors[0].line, 1u);
}

TEST(trace_error, message_says_where_what_and_what_to_do) {
  trace_error error;
  error.file = "x.trace";
  error.line = 12;
  error.column = 5;
  error.what = "bad";
  error.text = "the line";
  error.expected = "good";
  error.advice = "try again";
  EXPECT_EQ(error.to_string(), "x.trace:12:5: bad\n  line: the line\n  expected: good\n  try again");
  error = {};
  error.file = "y";
  error.what = "missing";
  EXPECT_EQ(error.to_string(), "y: missing");
}

TEST(trace_error, shown_text_is_printable_and_short) {
  EXPECT_EQ(printable("a\tb\x1b[31m\x7f"), "a b\\x1b[31m\\x7f");
  EXPECT_EQ(printable("\xc3\xa9 \xc3\x28 \xff \xc2\x9b"), "\xc3\xa9 \\xc3( \\xff \\xc2\\x9b");
  EXPECT_EQ(printable(std::string(1000, 'x')), std::string(160, 'x') + "...");
  const std::string marked = std::string(500, 'x') + "!" + std::string(500, 'y');
  EXPECT_THAT(printable(marked, 500), HasSubstr("!"));
  EXPECT_EQ(printable(marked, 500).substr(0, 4), "...x");
  EXPECT_EQ(printable("short", 900), "short");
  EXPECT_EQ(quoted("a b"), "\"a b\"");
}

}  // namespace
}  // namespace kmem::tool::trace
