#pragma once

// Streaming decompression behind one interface, and recognition of what a file is by its first bytes.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace kmem::tool::trace {

enum class compression : std::uint8_t { none, gzip, xz, zstd };

std::string_view compression_name(compression kind);  // "none", "gzip", "xz", "zstd"

// What the first bytes of a file say. `kind` is what can be read; `foreign` describes a format that cannot
// ("a bzip2 archive") and `advice` what to do about it; both are empty when the file can be read or may be text.
struct file_signature {
  compression kind = compression::none;
  std::string_view foreign;
  std::string_view advice;
};
inline constexpr std::size_t signature_bytes = 16;  // as many as detect_signature looks at
file_signature detect_signature(std::span<const std::uint8_t> start);

class decompressor {
 public:
  enum class status : std::uint8_t { more, failed };

  virtual ~decompressor() = default;

  // Decodes from the front of `in` to the front of `out` and shortens both by what was used. With `last` the input
  // ends after `in`.
  // Return: failed when the archive is corrupt, and problem() says how.
  virtual status decode(std::span<const std::uint8_t>& in, std::span<char>& out, bool last) = 0;

  // Is everything decoded so far a complete archive? False in the middle of one.
  virtual bool complete() const = 0;

  const std::string& problem() const { return problem_; }

 protected:
  std::string problem_;
};

// Null for compression::none or when the library cannot get memory.
std::unique_ptr<decompressor> make_decompressor(compression kind);

}  // namespace kmem::tool::trace
