#include "decompress.hpp"

#include <algorithm>
#include <array>

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

namespace kmem::tool::trace {

namespace {

// A corrupt header may ask for any amount; what `xz -9` needs is 65 MiB.
constexpr std::uint64_t xz_memory_limit = std::uint64_t{512} << 20;

// zlib counts in unsigned int.
constexpr std::size_t gzip_step = std::size_t{1} << 30;

class gzip_decompressor final : public decompressor {
 public:
  gzip_decompressor() {
    // 15: the largest window; + 16: a gzip header, not a zlib one.
    ready_ = inflateInit2(&stream_, 15 + 16) == Z_OK;
  }
  ~gzip_decompressor() override {
    if (ready_) inflateEnd(&stream_);
  }
  gzip_decompressor(const gzip_decompressor&) = delete;
  gzip_decompressor& operator=(const gzip_decompressor&) = delete;

  bool ready() const { return ready_; }

  status decode(std::span<const std::uint8_t>& in, std::span<char>& out, bool) override {
    if (member_ended_) {
      // gzip pads with zero bytes on tapes and ignores them, so that a padded file is complete.
      while (!in.empty() && in.front() == 0) in = in.subspan(1);
      if (in.empty()) return status::more;
      if (inflateReset(&stream_) != Z_OK) return fail("the decompressor cannot start over");
      member_ended_ = false;
    }
    const std::size_t given_in = std::min(in.size(), gzip_step);
    const std::size_t given_out = std::min(out.size(), gzip_step);
    stream_.next_in = const_cast<Bytef*>(in.data());  // zlib reads only
    stream_.avail_in = static_cast<uInt>(given_in);
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(given_out);
    const int code = inflate(&stream_, Z_NO_FLUSH);
    in = in.subspan(given_in - stream_.avail_in);
    out = out.subspan(given_out - stream_.avail_out);
    if (code == Z_STREAM_END) {
      member_ended_ = true;
      return status::more;
    }
    if (code == Z_OK || code == Z_BUF_ERROR) return status::more;
    return fail(stream_.msg != nullptr ? stream_.msg : code == Z_MEM_ERROR ? "out of memory" : "bad data");
  }

  bool complete() const override { return member_ended_; }

 private:
  status fail(const char* why) {
    problem_ = why;
    return status::failed;
  }

  z_stream stream_{};
  bool ready_ = false;
  bool member_ended_ = false;
};

class xz_decompressor final : public decompressor {
 public:
  xz_decompressor() { ready_ = lzma_stream_decoder(&stream_, xz_memory_limit, LZMA_CONCATENATED) == LZMA_OK; }
  ~xz_decompressor() override { lzma_end(&stream_); }
  xz_decompressor(const xz_decompressor&) = delete;
  xz_decompressor& operator=(const xz_decompressor&) = delete;

  bool ready() const { return ready_; }

  status decode(std::span<const std::uint8_t>& in, std::span<char>& out, bool last) override {
    if (ended_) return status::more;
    stream_.next_in = in.data();
    stream_.avail_in = in.size();
    stream_.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    stream_.avail_out = out.size();
    const lzma_ret code = lzma_code(&stream_, last ? LZMA_FINISH : LZMA_RUN);
    in = in.subspan(in.size() - stream_.avail_in);
    out = out.subspan(out.size() - stream_.avail_out);
    if (code == LZMA_STREAM_END) ended_ = true;
    // LZMA_BUF_ERROR: no progress, which is for the caller to judge: the input ends too early.
    if (code == LZMA_OK || code == LZMA_STREAM_END || code == LZMA_BUF_ERROR) return status::more;
    problem_ = describe(code);
    return status::failed;
  }

  bool complete() const override { return ended_; }

 private:
  static const char* describe(lzma_ret code) {
    switch (code) {
      case LZMA_MEM_ERROR:
        return "out of memory";
      case LZMA_MEMLIMIT_ERROR:
        return "decompression would need more than 512 MiB of memory";
      case LZMA_FORMAT_ERROR:
        return "what follows is not xz data";
      case LZMA_OPTIONS_ERROR:
        return "compressed with options that this liblzma does not know";
      case LZMA_DATA_ERROR:
        return "damaged data or wrong checksum";
      default:
        return "bad data";
    }
  }

  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ready_ = false;
  bool ended_ = false;
};

class zstd_decompressor final : public decompressor {
 public:
  zstd_decompressor() : stream_(ZSTD_createDStream()) {}
  ~zstd_decompressor() override { ZSTD_freeDStream(stream_); }
  zstd_decompressor(const zstd_decompressor&) = delete;
  zstd_decompressor& operator=(const zstd_decompressor&) = delete;

  bool ready() const { return stream_ != nullptr; }

  status decode(std::span<const std::uint8_t>& in, std::span<char>& out, bool) override {
    ZSTD_inBuffer source{in.data(), in.size(), 0};
    ZSTD_outBuffer target{out.data(), out.size(), 0};
    const std::size_t code = ZSTD_decompressStream(stream_, &target, &source);
    in = in.subspan(source.pos);
    out = out.subspan(target.pos);
    if (ZSTD_isError(code) == 0) {
      // 0: a frame has ended and is written out whole. Another may follow.
      if (source.pos != 0 || target.pos != 0) complete_ = code == 0;
      return status::more;
    }
    switch (ZSTD_getErrorCode(code)) {
      case ZSTD_error_prefix_unknown:
        problem_ = "what follows is not zstd data";
        break;
      case ZSTD_error_frameParameter_windowTooLarge:
        problem_ = "decompression would need a window of more than 128 MiB (compressed with zstd --long)";
        break;
      default:
        problem_ = ZSTD_getErrorName(code);
        break;
    }
    return status::failed;
  }

  bool complete() const override { return complete_; }

 private:
  ZSTD_DStream* stream_;
  bool complete_ = false;
};

template <typename Decompressor>
std::unique_ptr<decompressor> make_ready() {
  auto made = std::make_unique<Decompressor>();
  if (!made->ready()) return nullptr;
  return made;
}

struct known_signature {
  std::array<std::uint8_t, 10> bytes;
  std::size_t length;
  file_signature meaning;
};

constexpr std::string_view recompress = "decompress it first, or compress it with gzip, xz or zstd";

constexpr known_signature known_signatures[] = {
    {{0x1f, 0x8b}, 2, {compression::gzip, {}, {}}},
    {{0xfd, '7', 'z', 'X', 'Z', 0}, 6, {compression::xz, {}, {}}},
    {{0x28, 0xb5, 0x2f, 0xfd}, 4, {compression::zstd, {}, {}}},
    {{0x17, 0x08, 0x44, 't', 'r', 'a', 'c', 'i', 'n', 'g'},
     10,
     {compression::none, "a binary trace.dat of trace-cmd", "make text of it: trace-cmd report -i trace.dat > trace.txt"}},
    {{'P', 'E', 'R', 'F', 'I', 'L', 'E', '2'},
     8,
     {compression::none, "a binary perf.data", "record with trace-cmd, or copy /sys/kernel/tracing/trace"}},
    {{'B', 'Z', 'h'}, 3, {compression::none, "a bzip2 archive", recompress}},
    {{0x04, 0x22, 0x4d, 0x18}, 4, {compression::none, "an lz4 archive", recompress}},
    {{'P', 'K', 0x03, 0x04}, 4, {compression::none, "a zip archive", recompress}},
    {{0x1f, 0x9d}, 2, {compression::none, "a compress (.Z) archive", recompress}},
    {{0x7f, 'E', 'L', 'F'}, 4, {compression::none, "a program (ELF)", "name a text trace"}},
};

}  // namespace

std::string_view compression_name(compression kind) {
  switch (kind) {
    case compression::none:
      return "none";
    case compression::gzip:
      return "gzip";
    case compression::xz:
      return "xz";
    case compression::zstd:
      return "zstd";
  }
  return "none";
}

file_signature detect_signature(std::span<const std::uint8_t> start) {
  for (const known_signature& each : known_signatures) {
    if (start.size() >= each.length &&
        std::equal(each.bytes.begin(), each.bytes.begin() + static_cast<std::ptrdiff_t>(each.length), start.begin())) {
      return each.meaning;
    }
  }
  // Skippable zstd frames (pzstd writes one first) have sixteen magic numbers.
  if (start.size() >= 4 && (start[0] & 0xf0) == 0x50 && start[1] == 0x2a && start[2] == 0x4d && start[3] == 0x18) {
    return {compression::zstd, {}, {}};
  }
  return {};
}

std::unique_ptr<decompressor> make_decompressor(compression kind) {
  switch (kind) {
    case compression::none:
      return nullptr;
    case compression::gzip:
      return make_ready<gzip_decompressor>();
    case compression::xz:
      return make_ready<xz_decompressor>();
    case compression::zstd:
      return make_ready<zstd_decompressor>();
  }
  return nullptr;
}

}  // namespace kmem::tool::trace
