// Operations on a whole machine as plain values: from bytes (the fuzzer) or from a seed (the random test), to text and back.
//
// Every sequence of bytes is a valid program: a header that chooses the machine, then six bytes an operation. What an operation cannot
// do at that moment (free when nothing is held) it leaves out. The executor is ops_machine.hpp.
#pragma once
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/gfp.hpp"

namespace kmem::testing {

enum class op_kind : std::uint8_t {
  kmalloc,        // size
  kmalloc_align,  // size; pick: alignment
  kmalloc_huge,   // size, beyond kmalloc_max too
  krealloc,       // pick, size
  free,           // pick: anything, by its own function
  cache_create,   // pick: slot, flags and alignment; size
  cache_destroy,  // pick: slot
  cache_alloc,    // pick: slot
  cache_bulk,     // pick: slot; size: how many
  cache_give,     // pick: slot; size: how many
  pages,          // size: order
  run,            // size: pages
  resize,         // pick, size
  split,          // pick
  reference,      // pick; size: one more, or one less
  exact,          // size
  page_bulk,      // size: how many
  vmalloc,        // size
  kvmalloc,       // size
  kvrealloc,      // pick, size
  drain,          // pick: what
  give_back,      // size: pages; pick: single ones too
  shrink,         // pick: slot
  to_pool,        // pick: this range may be reclaimed from now on
  callback,       // on or off; pick: what it does besides
  fail_nth,       // modifies the next operation
  fail_point,     // pick: which; size: how often
  scope,          // modifies the next operation
  busy,           // the next operation runs as if in a handler that interrupted the holder of locks; pick: which
  wrong_free,     // pick, size: of what
  check,          // walks and compares everything
  burst,          // pick: how many kmallocs of one size
  free_many,      // pick: first; size: how many
  move,           // to another CPU
};
inline constexpr unsigned nr_op_kinds = 34;
inline constexpr const char* op_names[nr_op_kinds] = {
    "kmalloc",    "kmalloc_align", "kmalloc_huge", "krealloc",  "free",   "cache_create", "cache_destroy", "cache_alloc", "cache_bulk",
    "cache_give", "pages",         "run",          "resize",    "split",  "reference",    "exact",         "page_bulk",   "vmalloc",
    "kvmalloc",   "kvrealloc",     "drain",        "give_back", "shrink", "to_pool",      "callback",      "fail_nth",    "fail_point",
    "scope",      "busy",          "wrong_free",   "check",     "burst",  "free_many",    "move"};

struct operation {
  op_kind kind = op_kind::check;
  std::uint8_t mode = 0;  // low 5 bits: gfp_masks; high 3 bits: context
  std::uint16_t pick = 0;
  std::uint16_t size = 0;
};
inline constexpr std::size_t operation_bytes = 6;

/// A machine and what is done with it.
struct op_program {
  std::uint8_t shape[3] = {};
  std::vector<operation> operations;
};

inline constexpr gfp_t gfp_masks[32] = {
    gfp::kernel,
    gfp::kernel,
    gfp::kernel,
    gfp::kernel | gfp::zero,
    gfp::atomic,
    gfp::atomic,
    gfp::atomic | gfp::zero,
    gfp::nowait,
    gfp::nowait | gfp::zero,
    gfp::noio,
    gfp::nofs,
    gfp::user,
    gfp::highuser,
    gfp::highuser_movable,
    gfp::highuser_movable | gfp::zero,
    gfp::kernel | gfp::dma,
    gfp::atomic | gfp::dma | gfp::zero,
    gfp::kernel | gfp::dma32,
    gfp::kernel | gfp::reclaimable,
    gfp::kernel | gfp::noretry,
    gfp::kernel | gfp::retry_mayfail,
    gfp::kernel | gfp::nofail,
    gfp::kernel | gfp::cold,
    gfp::kernel | gfp::comp,
    gfp::kernel | gfp::comp | gfp::zero,
    gfp::kernel | gfp::high,
    gfp::kernel | gfp::nomemalloc,
    gfp::atomic | gfp::nomemalloc,
    gfp::kernel | gfp::memalloc,
    gfp::nowait | gfp::movable | gfp::cold,
    gfp::kernel | gfp::movable | gfp::write,
    gfp::none,
};

enum class op_context : std::uint8_t { process, preempt_off, hardirq, softirq, irqs_off };
constexpr op_context context_of(const operation& op) {
  const unsigned high = op.mode >> 5;
  return high < 4 ? op_context::process : op_context(high - 3);
}
constexpr gfp_t mask_of(const operation& op) { return gfp_masks[op.mode & 31]; }

/// Bytes from a 16-bit number: small ones mostly, up to 4 MiB, powers of two and their neighbours often.
constexpr std::size_t size_from(std::uint16_t v) {
  const std::size_t low = v & 0x1fffu;
  switch (v >> 13) {
    case 0:
      return low % 129;
    case 1:
      return low % 1025;
    case 2:
      return low;
    case 3:
      return low * 4 + 1;
    case 4:
      return (std::size_t{1} << (low % 23)) + (low >> 5) % 3 - (low % 23 == 0 ? 0 : 1);
    case 5:
      return std::size_t{1} << (low % 17);
    case 6:
      return low * 64;
    default:
      return low * 512;
  }
}

/// The machine's parameters, as KMEM_CMDLINE would have them.
inline std::string parameters_of(const op_program& program) {
  static const char* const zones[] = {"mem=4M",
                                      "mem=6M",
                                      "mem=8M zone_dma=1M",
                                      "mem=12M zone_dma32=2M",
                                      "mem=16M",
                                      "mem=16M highmem=4M movablecore=2M",
                                      "mem=10M span=12M",
                                      "mem=32M zone_dma=2M zone_dma32=2M highmem=6M movablecore=4M",
                                      "mem=24M vm.min_free_kbytes=2048"};
  std::string text = zones[program.shape[0] % std::size(zones)];
  const unsigned bits = program.shape[1];
  text += bits & 1 ? " backing=memfd" : " backing=anon";
  if (bits & 2) text += " vm.reserve_policy=linux6.1";
  if (bits & 4) text += " max_order=10";
  if (bits & 8) text += " vm.reserve_backed_kbytes=64";
  if (bits & 16) text += " kmalloc_max=128K";
  if (bits & 32) text += " vm.lowmem_reserve_ratio=8,8,4";
  if (bits & 64) text += " vm.keep_free_kbytes=0";
  static const char* const cpus[] = {" cpus=1", " cpus=2", " cpus=3", " cpus=8"};
  return text + cpus[program.shape[2] % std::size(cpus)];
}

inline op_program decode(const std::uint8_t* data, std::size_t bytes) {
  op_program program;
  if (bytes < sizeof program.shape) return program;
  for (std::uint8_t& byte : program.shape) byte = *data++;
  bytes -= sizeof program.shape;
  for (; bytes >= operation_bytes; bytes -= operation_bytes, data += operation_bytes)
    program.operations.push_back({op_kind(data[0] % nr_op_kinds), data[1], static_cast<std::uint16_t>(data[2] | data[3] << 8),
                                  static_cast<std::uint16_t>(data[4] | data[5] << 8)});
  return program;
}

inline std::vector<std::uint8_t> encode(const op_program& program) {
  std::vector<std::uint8_t> bytes(program.shape, program.shape + sizeof program.shape);
  for (const operation& op : program.operations) {
    bytes.push_back(static_cast<std::uint8_t>(op.kind));
    bytes.push_back(op.mode);
    for (const std::uint16_t number : {op.pick, op.size}) {
      bytes.push_back(static_cast<std::uint8_t>(number & 0xff));
      bytes.push_back(static_cast<std::uint8_t>(number >> 8));
    }
  }
  return bytes;
}

/// What a random program is made of: how often each kind comes, and how full the machine is kept.
inline op_program random_program(std::uint64_t seed, unsigned length) {
  std::mt19937_64 random(seed);
  op_program program;
  for (std::uint8_t& byte : program.shape) byte = static_cast<std::uint8_t>(random());
  static constexpr unsigned weights[nr_op_kinds] = {12, 3, 3, 5, 18, 3, 1, 8, 4, 3, 9, 4, 4, 2, 2, 3, 2,
                                                    4,  3, 3, 3, 2,  1, 3, 1, 3, 1, 2, 5, 5, 2, 4, 3, 1};
  unsigned total = 0;
  for (const unsigned weight : weights) total += weight;
  for (unsigned i = 0; i < length; ++i) {
    unsigned draw = static_cast<unsigned>(random() % total), kind = 0;
    while (draw >= weights[kind]) draw -= weights[kind++];
    operation op;
    op.kind = op_kind(kind);
    op.mode = static_cast<std::uint8_t>(random());
    if (random() % 4 != 0) op.mode &= 0x7f;
    op.pick = static_cast<std::uint16_t>(random());
    op.size = static_cast<std::uint16_t>(random());
    if (random() % 2 != 0) op.size &= 0x5fff;
    program.operations.push_back(op);
  }
  return program;
}

inline std::string to_text(const operation& op) {
  static const char* const contexts[] = {"", " preempt_off", " hardirq", " softirq", " irqs_off"};
  char names[160];
  format_gfp(mask_of(op), names, sizeof names);
  const auto kind = static_cast<unsigned>(op.kind);
  return std::string(op_names[kind]) + " " + names + contexts[static_cast<unsigned>(context_of(op))] + " pick=" + std::to_string(op.pick) +
         " size=" + std::to_string(op.size) + " (" + std::to_string(size_from(op.size)) + " bytes)";
}

inline std::string to_text(const op_program& program) {
  std::string text = parameters_of(program) + "\n";
  for (const operation& op : program.operations) text += "  " + to_text(op) + "\n";
  text += "bytes: ";
  for (const std::uint8_t byte : encode(program)) {
    char hex[3];
    std::snprintf(hex, sizeof hex, "%02x", byte);
    text += hex;
  }
  return text + "\n";
}

}  // namespace kmem::testing
