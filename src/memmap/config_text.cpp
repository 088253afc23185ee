// The values of a configuration as words that parse_config would accept.
//
// States, locks, ordering. None. Context: any.
// Tests.   tests/unit/memmap/config_text_test.cpp
#include "memmap/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

text_writer& size(text_writer& out, uint64_t bytes) noexcept {
  constexpr char units[] = "\0KMGT";
  unsigned unit = 0;
  for (; unit < 4 && bytes != 0 && bytes % 1024 == 0; ++unit) bytes /= 1024;
  out.dec(bytes);
  return unit != 0 ? out.ch(units[unit]) : out;
}

template <uint64_t machine_config::*field>
void show_size(const machine_config& c, text_writer& out) noexcept {
  size(out, c.*field);
}
template <uint64_t machine_config::*field>
void show_auto_size(const machine_config& c, text_writer& out) noexcept {
  if (c.*field == 0)
    out.str("auto");
  else
    size(out, c.*field);
}
template <auto field>
void show_number(const machine_config& c, text_writer& out) noexcept {
  out.dec(c.*field);
}

void show_mem(const machine_config& c, text_writer& out) noexcept {
  if (c.mem_percent != 0)
    out.dec(c.mem_percent).ch('%');
  else
    show_auto_size<&machine_config::mem>(c, out);
}
void show_min_free(const machine_config& c, text_writer& out) noexcept {
  if (c.min_free_kbytes == 0)
    out.str("auto");
  else
    out.dec(c.min_free_kbytes);
}
void show_lowmem_ratio(const machine_config& c, text_writer& out) noexcept {
  for (unsigned i = 0; i < nr_zones; ++i) out.str(i == 0 ? "" : ",").dec(c.lowmem_reserve_ratio[i]);
}
void show_reserve_backed(const machine_config& c, text_writer& out) noexcept {
  if (c.reserve_backed_kbytes == ~uint64_t{0})
    out.str("all");
  else
    out.dec(c.reserve_backed_kbytes);
}
void show_keep_free(const machine_config& c, text_writer& out) noexcept {
  if (c.keep_free_kbytes == ~uint64_t{0})
    out.str("all");
  else
    out.dec(c.keep_free_kbytes);
}
void show_kswapd(const machine_config& c, text_writer& out) noexcept {
  out.str(c.kswapd == kswapd_mode::off ? "0" : c.kswapd == kswapd_mode::on ? "1" : "auto");
}
void show_checker(const machine_config& c, text_writer& out) noexcept {
  out.str(c.reclaim_checker == checker_mode::off ? "0" : c.reclaim_checker == checker_mode::on ? "1" : "auto");
}
void show_context_policy(const machine_config& c, text_writer& out) noexcept {
  out.str(c.on_broken_context == context_policy::report ? "report" : c.on_broken_context == context_policy::count ? "count" : "abort");
}
void show_cpus(const machine_config& c, text_writer& out) noexcept {
  if (c.cpus == 0)
    out.str("auto");
  else
    out.dec(c.cpus);
}
void show_stat(const machine_config& c, text_writer& out) noexcept {
  if (c.stat_keep != 0)
    out.str("keep:").dec(c.stat_keep);
  else
    out.dec(c.stat ? 1 : 0);
}
template <fail_point point>
void show_fail(const machine_config& c, text_writer& out) noexcept {
  const fail_attributes& a = c.fail[static_cast<unsigned>(point)];
  out.dec(a.interval).ch(',').dec(a.probability).ch(',').dec(a.space).ch(',').sdec(a.times);
}

constexpr struct {
  const char* name;
  void (*show)(const machine_config& config, text_writer& out) noexcept;
} table[] = {
    {"mem", show_mem},
    {"cgroup", show_number<&machine_config::cgroup>},
    {"span", show_auto_size<&machine_config::span>},
    {"backing", [](const machine_config& c, text_writer& out) noexcept { out.str(c.kind == backing::anon ? "anon" : "memfd"); }},
    {"max_order", show_number<&machine_config::max_order>},
    {"zone_dma", show_auto_size<&machine_config::zone_dma>},
    {"zone_dma32", show_size<&machine_config::zone_dma32>},
    {"highmem", show_size<&machine_config::zone_highmem>},
    {"movablecore", show_size<&machine_config::zone_movable>},
    {"vm.min_free_kbytes", show_min_free},
    {"vm.watermark_scale_factor", show_number<&machine_config::watermark_scale_factor>},
    {"vm.lowmem_reserve_ratio", show_lowmem_ratio},
    {"vm.reserve_policy",
     [](const machine_config& c, text_writer& out) noexcept { out.str(c.policy == reserve_policy::spec ? "spec" : "linux6.1"); }},
    {"vm.reserve_backed_kbytes", show_reserve_backed},
    {"vm.keep_free_kbytes", show_keep_free},
    {"vm.alloc_wait_ms", show_number<&machine_config::alloc_wait_ms>},
    {"vm.kswapd", show_kswapd},
    {"vm.sleep_record_ms", show_number<&machine_config::sleep_record_ms>},
    {"vm.reclaim_checker", show_checker},
    {"context_policy", show_context_policy},
    {"kmalloc_max", show_auto_size<&machine_config::kmalloc_max>},
    {"cpus", show_cpus},
    {"stat", show_stat},
    {"failslab", show_fail<fail_point::failslab>},
    {"fail_page_alloc", show_fail<fail_point::fail_page_alloc>},
    {"fail_mmap", show_fail<fail_point::fail_mmap>},
};

}  // namespace

bool write_parameter(const machine_config& config, const char* name, text_writer& out) noexcept {
  for (const auto& row : table) {
    if (!equal(whole(name), row.name)) continue;
    row.show(config, out);
    return true;
  }
  return false;
}

}  // inline namespace
}  // namespace kmem
