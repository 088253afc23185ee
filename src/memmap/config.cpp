// The parameters of a machine: one table that parses them, names what would be right, and is the source of their documentation.
//
// What for. KMEM_CMDLINE and the tools' --param give "name=value name=value", with the kernel's own names where it has one.
// States.  A configuration is changed as a whole or not at all: parsing works on a copy, which must be valid in the end.
// Locks, ordering. None. Context: any.
// Kernel.  An unknown or malformed parameter is an error here; the kernel passes it on to init or ignores it. As there, `-` and `_` are
//          the same in names, and the last of equal names counts.
// Tests.   tests/unit/memmap/config_test.cpp
#include <array>

#include "memmap/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

// ---- values -----------------------------------------------------------------------------------------------------------------

/// Decimal digits and nothing else. Return: false if malformed or above `most`.
bool parse_decimal(piece value, uint64_t most, uint64_t& result) noexcept {
  if (value.length == 0) return false;
  result = 0;
  for (size_t i = 0; i < value.length; ++i) {
    if (value.text[i] < '0' || value.text[i] > '9') return false;
    const auto digit = static_cast<uint64_t>(value.text[i] - '0');
    if (digit > most || result > (most - digit) / 10) return false;
    result = result * 10 + digit;
  }
  return true;
}

template <class Integer>
bool parse_integer(piece value, uint64_t least, uint64_t most, Integer& field) noexcept {
  uint64_t number = 0;
  if (!parse_decimal(value, most, number) || number < least) return false;
  field = static_cast<Integer>(number);
  return true;
}

/// KiB values of the kernel's, as far as they can be written in bytes.
constexpr uint64_t most_kbytes = ~uint64_t{0} >> 10;

bool parse_mem(piece value, machine_config& c) noexcept {
  uint64_t size = 0;
  uint32_t percent = 0;
  if (equal(value, "auto")) {
    // Both stay 0.
  } else if (value.length != 0 && value.text[value.length - 1] == '%') {
    if (!parse_integer({value.text, value.length - 1}, 1, 100, percent)) return false;
  } else if (!parse_size(value.text, value.length, size) || size == 0) {
    return false;
  }
  c.mem = size;
  c.mem_percent = percent;
  return true;
}

template <uint64_t machine_config::*field>
bool parse_size_field(piece value, machine_config& c) noexcept {
  return parse_size(value.text, value.length, c.*field);
}

/// A size, or "auto" where 0 means that it is chosen.
template <uint64_t machine_config::*field>
bool parse_auto_size(piece value, machine_config& c) noexcept {
  if (equal(value, "auto")) {
    c.*field = 0;
    return true;
  }
  return parse_size(value.text, value.length, c.*field) && c.*field != 0;
}

bool parse_backing(piece value, machine_config& c) noexcept {
  if (!equal(value, "anon") && !equal(value, "memfd")) return false;
  c.kind = equal(value, "anon") ? backing::anon : backing::memfd;
  return true;
}

bool parse_max_order(piece value, machine_config& c) noexcept { return parse_integer(value, 10, 11, c.max_order); }

bool parse_policy(piece value, machine_config& c) noexcept {
  if (!equal(value, "spec") && !equal(value, "linux6.1")) return false;
  c.policy = equal(value, "spec") ? reserve_policy::spec : reserve_policy::linux6_1;
  return true;
}

bool parse_min_free(piece value, machine_config& c) noexcept {
  if (!equal(value, "auto")) return parse_integer(value, 1, most_kbytes, c.min_free_kbytes);
  c.min_free_kbytes = 0;
  return true;
}

constexpr uint32_t most_watermark_scale = 3000;  // the kernel's

bool parse_watermark_scale(piece value, machine_config& c) noexcept {
  return parse_integer(value, 1, most_watermark_scale, c.watermark_scale_factor);
}

/// As writing the kernel's file: fewer numbers than zones set the first ones.
bool parse_lowmem_ratio(piece value, machine_config& c) noexcept {
  size_t begin = 0;
  for (unsigned zone = 0;; ++zone) {
    size_t end = begin;
    while (end < value.length && value.text[end] != ',') ++end;
    if (zone == nr_zones) return false;
    if (!parse_integer({value.text + begin, end - begin}, 0, ~uint32_t{0}, c.lowmem_reserve_ratio[zone])) return false;
    if (end == value.length) return true;
    begin = end + 1;
  }
}

constexpr uint64_t all_backed = ~uint64_t{0};

bool parse_reserve_backed(piece value, machine_config& c) noexcept {
  if (!equal(value, "all")) return parse_integer(value, 0, most_kbytes, c.reserve_backed_kbytes);
  c.reserve_backed_kbytes = all_backed;
  return true;
}

bool parse_keep_free(piece value, machine_config& c) noexcept {
  if (!equal(value, "all")) return parse_integer(value, 0, most_kbytes, c.keep_free_kbytes);
  c.keep_free_kbytes = ~uint64_t{0};
  return true;
}

bool parse_alloc_wait(piece value, machine_config& c) noexcept { return parse_integer(value, 0, ~uint32_t{0}, c.alloc_wait_ms); }

bool parse_kswapd(piece value, machine_config& c) noexcept {
  if (!equal(value, "0") && !equal(value, "1") && !equal(value, "auto")) return false;
  c.kswapd = equal(value, "0") ? kswapd_mode::off : equal(value, "1") ? kswapd_mode::on : kswapd_mode::when_threaded;
  return true;
}

bool parse_reclaim_checker(piece value, machine_config& c) noexcept {
  if (!equal(value, "auto") && !equal(value, "0") && !equal(value, "1")) return false;
  c.reclaim_checker = equal(value, "0") ? checker_mode::off : equal(value, "1") ? checker_mode::on : checker_mode::in_debug_builds;
  return true;
}

bool parse_context_policy(piece value, machine_config& c) noexcept {
  if (!equal(value, "report") && !equal(value, "count") && !equal(value, "abort")) return false;
  c.on_broken_context = equal(value, "count") ? context_policy::count
                        : equal(value, "abort") ? context_policy::abort
                                                : context_policy::report;
  return true;
}

bool parse_sleep_record(piece value, machine_config& c) noexcept { return parse_integer(value, 0, ~uint32_t{0}, c.sleep_record_ms); }

bool parse_cpus(piece value, machine_config& c) noexcept {
  if (!equal(value, "auto")) return parse_integer(value, 1, max_cpus, c.cpus);
  c.cpus = 0;
  return true;
}

bool parse_stat(piece value, machine_config& c) noexcept {
  uint32_t keep = 0;
  const bool kept = value.length > 5 && equal({value.text, 5}, "keep:");
  if (kept ? !parse_integer(value.from(5), 1, ~uint32_t{0} >> 1, keep) : !equal(value, "0") && !equal(value, "1")) return false;
  c.stat = kept || equal(value, "1");
  c.stat_keep = keep;
  return true;
}

bool parse_cgroup(piece value, machine_config& c) noexcept {
  if (!equal(value, "0") && !equal(value, "1")) return false;
  c.cgroup = equal(value, "1");
  return true;
}

template <fail_point point>
bool parse_fail(piece value, machine_config& c) noexcept {
  char text[80];
  if (value.length >= sizeof text) return false;
  for (size_t i = 0; i < value.length; ++i) text[i] = value.text[i];
  text[value.length] = '\0';
  return parse_fail_attributes(text, c.fail[static_cast<unsigned>(point)]);
}

// ---- the table --------------------------------------------------------------------------------------------------------------

struct parameter {
  parameter_info info;
  bool (*parse)(piece value, machine_config& config) noexcept;
};

constexpr char size_or_auto[] = "auto, or a size in bytes with K, M, G or T";
constexpr char a_size[] = "a size in bytes with K, M, G or T";
constexpr char fail_values[] = "interval,probability in percent,bytes to let pass,times (-1: no limit)";

constexpr parameter table[] = {
    {{"mem", "auto, N% or a size of 4M to 8T", "auto", "mem=512M",
      "The budget: what the machine may use in all. auto: 80 % of the cgroup's limit, less if others use it, else physical memory."},
     parse_mem},
    {{"cgroup", "0 or 1", "1", "cgroup=0", "Whether the limits of the process's cgroups count when mem is auto or a percentage."},
     parse_cgroup},
    {{"span", size_or_auto, "auto", "span=4G", "Address space of zone NORMAL."}, parse_auto_size<&machine_config::span>},
    {{"backing", "anon or memfd", "anon", "backing=memfd",
      "Private anonymous memory, or a memfd whose pages may have a second address and are shared with a forked child."},
     parse_backing},
    {{"max_order", "10 or 11", "11", "max_order=10", "Orders of page blocks are below this: the largest block has 2 MiB or 4 MiB."},
     parse_max_order},
    {{"zone_dma", size_or_auto, "auto", "zone_dma=4M", "Size of zone DMA, at most 16M. auto: 1/32 of the budget, at most 16M."},
     parse_auto_size<&machine_config::zone_dma>},
    {{"zone_dma32", a_size, "0", "zone_dma32=64M", "Size of zone DMA32; DMA and DMA32 together have at most 4G."},
     parse_size_field<&machine_config::zone_dma32>},
    {{"highmem", a_size, "0", "highmem=128M", "Size of zone HIGHMEM."}, parse_size_field<&machine_config::zone_highmem>},
    {{"movablecore", a_size, "0", "movablecore=128M", "Size of zone MOVABLE."}, parse_size_field<&machine_config::zone_movable>},
    {{"vm.min_free_kbytes", "auto, or KiB from 1", "auto", "vm.min_free_kbytes=4096",
      "Memory below which ordinary allocations stop. auto: the kernel's formula, 4 * sqrt(lowmem in KiB)."},
     parse_min_free},
    {{"vm.watermark_scale_factor", "1 to 3000, in 1/10000 of a zone", "10", "vm.watermark_scale_factor=100",
      "Distance between the min, low and high watermarks."},
     parse_watermark_scale},
    {{"vm.lowmem_reserve_ratio", "one to five numbers (DMA,DMA32,NORMAL,HIGHMEM,MOVABLE)", "256,256,32,0,0",
      "vm.lowmem_reserve_ratio=256,256,64",
      "Share (one part in so many) of higher zones that a zone keeps from their requests; 0: nothing."},
     parse_lowmem_ratio},
    {{"vm.reserve_policy", "spec or linux6.1", "spec", "vm.reserve_policy=linux6.1",
      "Who may use the last pages: GFP_ATOMIC down to the last one, or the depths of Linux 6.1."},
     parse_policy},
    {{"vm.reserve_backed_kbytes", "all, or KiB", "all", "vm.reserve_backed_kbytes=128",
      "How much of the reserve is backed by memory from the start. all: as much as vm.min_free_kbytes."},
     parse_reserve_backed},
    {{"vm.keep_free_kbytes", "all, or KiB", "all", "vm.keep_free_kbytes=16384",
      "Free memory that stays backed, besides an eighth of what is in use: more goes back to the system as it is freed. "
      "4096 in the malloc replacement."},
     parse_keep_free},
    {{"vm.alloc_wait_ms", "milliseconds", "0", "vm.alloc_wait_ms=100",
      "How long an allocation that may sleep waits for memory before it fails."},
     parse_alloc_wait},
    {{"vm.kswapd", "auto, 0 or 1", "auto", "vm.kswapd=1",
      "Whether a thread reclaims in the background. auto: once the process has a second thread; 0 in the malloc replacement."},
     parse_kswapd},
    {{"vm.sleep_record_ms", "milliseconds", "100", "vm.sleep_record_ms=10",
      "Requests that sleep for memory this long or longer leave a record: who waited, how long, and who woke it."},
     parse_sleep_record},
    {{"vm.reclaim_checker", "auto, 0 or 1", "auto", "vm.reclaim_checker=1",
      "Whether recursion into reclaim, and work that reclaim's flags do not permit, is reported. auto: in debug builds."},
     parse_reclaim_checker},
    {{"context_policy", "report, count or abort", "report", "context_policy=abort",
      "What a broken context rule, such as sleeping in atomic context, does besides being counted. abort: a report, and the process ends."},
     parse_context_policy},
    {{"kmalloc_max", size_or_auto, "auto", "kmalloc_max=128K", "The largest kmalloc. auto: the largest block of pages."},
     parse_auto_size<&machine_config::kmalloc_max>},
    {{"cpus", "auto, or 1 to 1024", "auto", "cpus=8", "Possible CPUs. auto: those of the system."}, parse_cpus},
    {{"stat", "0, 1 or keep:PID", "0", "stat=1",
      "Whether the process shows its figures to the command kmem; 1 in the malloc replacement. keep: and the last ones stay behind."},
     parse_stat},
    {{"failslab", fail_values, "1,0,0,-1", "failslab=1,10,0,-1", "Makes allocations of slab objects fail."},
     parse_fail<fail_point::failslab>},
    {{"fail_page_alloc", fail_values, "1,0,0,-1", "fail_page_alloc=10,100,0,5", "Makes allocations of pages fail."},
     parse_fail<fail_point::fail_page_alloc>},
    {{"fail_mmap", fail_values, "1,0,0,-1", "fail_mmap=1,100,67108864,1", "Makes requests for address space and for opening it fail."},
     parse_fail<fail_point::fail_mmap>},
};
constexpr size_t nr_parameters = sizeof table / sizeof table[0];

constexpr std::array<parameter_info, nr_parameters> make_infos() {
  std::array<parameter_info, nr_parameters> result{};
  for (size_t i = 0; i < nr_parameters; ++i) result[i] = table[i].info;
  return result;
}
constexpr std::array<parameter_info, nr_parameters> infos = make_infos();

// ---- names ------------------------------------------------------------------------------------------------------------------

constexpr char canonical(char c) noexcept { return c == '-' ? '_' : c; }

bool same_name(piece a, piece b) noexcept {
  if (a.length != b.length) return false;
  for (size_t i = 0; i < a.length; ++i)
    if (canonical(a.text[i]) != canonical(b.text[i])) return false;
  return true;
}

/// What follows the last '.': names without their "vm." are a frequent slip.
piece last_part(piece name) noexcept {
  size_t begin = name.length;
  while (begin != 0 && name.text[begin - 1] != '.') --begin;
  return {name.text + begin, name.length - begin};
}

constexpr size_t longest_name = 31;

/// Insertions, deletions and replacements that make `b` of `a`; both at most longest_name characters.
unsigned edit_distance(piece a, piece b) noexcept {
  unsigned row[longest_name + 1];
  for (size_t j = 0; j <= b.length; ++j) row[j] = static_cast<unsigned>(j);
  for (size_t i = 1; i <= a.length; ++i) {
    unsigned diagonal = row[0];
    row[0] = static_cast<unsigned>(i);
    for (size_t j = 1; j <= b.length; ++j) {
      const unsigned replaced = diagonal + (canonical(a.text[i - 1]) != canonical(b.text[j - 1]) ? 1u : 0u);
      diagonal = row[j];
      const unsigned one_more = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
      row[j] = replaced < one_more ? replaced : one_more;
    }
  }
  return row[b.length];
}

const parameter* find_parameter(piece name) noexcept {
  for (const parameter& p : table)
    if (same_name(name, whole(p.info.name))) return &p;
  return nullptr;
}

/// The parameter that was probably meant. Return: nullptr if none is near.
const parameter* nearest_parameter(piece name) noexcept {
  if (name.length == 0 || name.length > longest_name) return nullptr;
  const parameter* best = nullptr;
  unsigned best_distance = 3;  // at most two slips, and fewer than half of the characters
  for (const parameter& p : table) {
    const piece known = whole(p.info.name);
    unsigned distance = edit_distance(name, known);
    const unsigned without_prefix = edit_distance(last_part(name), last_part(known));
    if (without_prefix < distance) distance = without_prefix;
    if (distance < best_distance && 2 * distance < last_part(name).length) {
      best = &p;
      best_distance = distance;
    }
  }
  return best;
}

// ---- messages ---------------------------------------------------------------------------------------------------------------

/// What the user wrote, shortened, with '?' for what is no printable ASCII.
void quote(text_writer& out, piece p) noexcept {
  constexpr size_t shown = 40;
  for (size_t i = 0; i < p.length && i < shown; ++i) out.ch(p.text[i] >= ' ' && p.text[i] <= '~' ? p.text[i] : '?');
  if (p.length > shown) out.str("...");
}

void size_text(text_writer& out, uint64_t bytes) noexcept {
  constexpr char units[] = "\0KMGT";
  unsigned unit = 0;
  while (unit < 4 && bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    ++unit;
  }
  out.dec(bytes);
  if (unit != 0) out.ch(units[unit]);
}

bool parse_one(piece word, machine_config& config, config_error& error) noexcept {
  text_writer out(error.text, sizeof error.text);
  size_t name_length = 0;
  while (name_length < word.length && word.text[name_length] != '=') ++name_length;
  const piece name{word.text, name_length};
  const parameter* const known = find_parameter(name);
  if (known == nullptr) {
    quote(out, name);
    out.str(": unknown parameter");
    if (const parameter* near = nearest_parameter(name)) return out.str("; did you mean ").str(near->info.name).str("?"), false;
    return out.str("; 'kmem params' lists the known ones"), false;
  }
  if (name_length == word.length) {
    quote(out, name);
    out.str(": needs a value, as in ").str(known->info.example);
    return false;
  }
  if (known->parse({word.text + name_length + 1, word.length - name_length - 1}, config)) return true;
  quote(out, word);
  out.str(": expected ").str(known->info.values).str(", as in ").str(known->info.example);
  return false;
}

// ---- what must fit together -------------------------------------------------------------------------------------------------

bool mem_is_valid(const machine_config& c, text_writer& out) noexcept {
  if (c.mem != 0 && c.mem_percent != 0) return out.str("mem: both a size and a percentage are set; one must be 0"), false;
  if (c.mem_percent > 100) return out.str("mem=").dec(c.mem_percent).str("%: at most 100%"), false;
  if (c.mem == 0 || (c.mem >= min_budget_bytes && c.mem <= max_budget_bytes)) return true;
  out.str("mem=");
  size_text(out, c.mem);
  out.str(c.mem < min_budget_bytes ? ": too small, at least " : ": too large, at most ");
  size_text(out, c.mem < min_budget_bytes ? min_budget_bytes : max_budget_bytes);
  return false;
}

bool too_large(text_writer& out, const char* name, uint64_t bytes, const char* what, uint64_t most) noexcept {
  out.str(name).ch('=');
  size_text(out, bytes);
  out.str(what);
  size_text(out, most);
  return false;
}

bool zones_are_valid(const machine_config& c, text_writer& out) noexcept {
  constexpr uint64_t dma_end = uint64_t{16} << 20, dma32_end = uint64_t{4} << 30;
  if (c.zone_dma > dma_end) return too_large(out, "zone_dma", c.zone_dma, ": zone DMA ends at ", dma_end);
  if (c.zone_dma32 > dma32_end - c.zone_dma) return too_large(out, "zone_dma32", c.zone_dma32, ": zones DMA and DMA32 end at ", dma32_end);
  if (c.span > max_budget_bytes) return too_large(out, "span", c.span, ": at most ", max_budget_bytes);
  const uint64_t sizes[] = {c.zone_dma, c.zone_dma32, c.zone_highmem, c.zone_movable};
  const char* const names[] = {"zone_dma", "zone_dma32", "highmem", "movablecore"};
  uint64_t left = c.mem != 0 ? c.mem : max_budget_bytes;
  for (unsigned i = 0; i < 4; ++i) {
    if (sizes[i] >= left)
      return too_large(out, names[i], sizes[i], ": leaves nothing of the budget for the other zones, of which there is ", left);
    left -= sizes[i];
  }
  return true;
}

bool numbers_are_valid(const machine_config& c, text_writer& out) noexcept {
  if (c.max_order != 10 && c.max_order != 11) return out.str("max_order=").dec(c.max_order).str(": expected 10 or 11"), false;
  if (c.kind != backing::anon && c.kind != backing::memfd) return out.str("backing: expected anon or memfd"), false;
  if (c.policy != reserve_policy::spec && c.policy != reserve_policy::linux6_1)
    return out.str("vm.reserve_policy: expected spec or linux6.1"), false;
  if (c.watermark_scale_factor < 1 || c.watermark_scale_factor > most_watermark_scale)
    return out.str("vm.watermark_scale_factor=").dec(c.watermark_scale_factor).str(": expected 1 to 3000"), false;
  if (c.cpus > max_cpus) return out.str("cpus=").dec(c.cpus).str(": at most ").dec(max_cpus), false;
  if (c.min_free_kbytes > most_kbytes || (c.mem != 0 && c.min_free_kbytes >= c.mem >> 10))
    return out.str("vm.min_free_kbytes=").dec(c.min_free_kbytes).str(": must be less than the budget"), false;
  if (c.path_prefix == nullptr) return out.str("path_prefix: is a null pointer; \"\" stands for none"), false;
  for (unsigned i = 0; i < nr_fail_points; ++i)
    if (c.fail[i].probability > 100 || c.fail[i].interval == 0)
      return out.str(fail_point_name(static_cast<fail_point>(i))).str(": expected a probability up to 100 and an interval from 1"), false;
  return true;
}

}  // namespace

std::span<const parameter_info> parameters() noexcept { return infos; }

const parameter_info* find_parameter_info(const char* name, size_t length) noexcept {
  const parameter* const known = find_parameter({name, length});
  return known != nullptr ? &known->info : nullptr;
}

bool parse_size(const char* text, size_t length, uint64_t& bytes) noexcept {
  unsigned shift = 0;
  if (length != 0) {
    switch (text[length - 1]) {
      case 'T':
      case 't':
        shift += 10;
        [[fallthrough]];
      case 'G':
      case 'g':
        shift += 10;
        [[fallthrough]];
      case 'M':
      case 'm':
        shift += 10;
        [[fallthrough]];
      case 'K':
      case 'k':
        shift += 10;
        --length;
        break;
      default:
        break;
    }
  }
  uint64_t number = 0;
  if (!parse_decimal({text, length}, ~uint64_t{0} >> shift, number)) return false;
  bytes = number << shift;
  return true;
}

bool config_is_valid(const machine_config& config, config_error& error) noexcept {
  text_writer out(error.text, sizeof error.text);
  return mem_is_valid(config, out) && numbers_are_valid(config, out) && zones_are_valid(config, out);
}

bool parse_config(const char* cmdline, machine_config& config, config_error& error) noexcept {
  machine_config result = config;
  const char* at = cmdline != nullptr ? cmdline : "";
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  for (;;) {
    while (blank(*at)) ++at;
    if (*at == '\0') break;
    const char* const begin = at;
    while (*at != '\0' && !blank(*at)) ++at;
    if (!parse_one({begin, static_cast<size_t>(at - begin)}, result, error)) return false;
  }
  if (!config_is_valid(result, error)) return false;
  config = result;
  return true;
}

}  // inline namespace
}  // namespace kmem
