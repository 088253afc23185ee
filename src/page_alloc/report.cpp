// What is said when an allocation fails: the structured record, always, and the "page allocation failure" report, unless unwanted.
//
// States.   Records are a ring by sequence number; a record being written is marked by sequence 0. The report goes out as several
//           messages, in the kernel's form with the counters that exist here, at most 10 in 5 seconds.
// Locks.    Each zone's for the moment of its snapshot. Context: any; nested slow paths that find a lock busy leave that zone's lines out.
// Ordering. record_ring.hpp
// Kernel.   warn_alloc's text. An order of MAX_ORDER and more is one line, where the kernel has a WARNING with registers.
// Tests.    tests/unit/page_alloc/report_test.cpp
#include "page_alloc/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

/// One message; text beyond its end is cut off.
class message {
 public:
  [[nodiscard]] message() noexcept : text_(buffer_, sizeof buffer_) {}
  text_writer& text() noexcept { return text_; }
  void send(log_level level, const void* const* pcs = nullptr, unsigned nr_pcs = 0) noexcept {
    printk(level, buffer_, text_.length() < sizeof buffer_ ? text_.length() : sizeof buffer_ - 1, pcs, nr_pcs);
  }

 private:
  char buffer_[printk_record_bytes];
  text_writer text_;
};

text_writer& kbytes(text_writer& text, const char* name, uint64_t pages) noexcept {
  return text.ch(' ').str(name).ch(':').dec(pages << (page_shift - 10)).str("kB");
}

/// Marks the thread as reporting: no report inside a report.
class report_guard {
 public:
  [[nodiscard]] report_guard() noexcept : task_(current()), nested_(task_.in_report) { task_.in_report = true; }
  ~report_guard() { task_.in_report = nested_; }
  report_guard(const report_guard&) = delete;
  report_guard& operator=(const report_guard&) = delete;
  bool nested() const noexcept { return nested_; }

 private:
  task_context& task_;
  bool nested_;
};

void append_task(text_writer& text) noexcept {
  char name[16];
  plat::thread_name(name, sizeof name);
  text.str("\nCPU: ").dec(static_cast<uint64_t>(plat::cpu())).str(" PID: ").dec(static_cast<uint64_t>(plat::thread_id()));
  text.str(" Comm: ").str(name).str("\nCall Trace:\n");
}

void append_mode(text_writer& text, gfp_t gfp) noexcept {
  char flags[200];
  format_gfp(gfp, flags, sizeof flags);
  text.str(", mode:0x").hex(static_cast<uint32_t>(gfp)).ch('(').str(flags).ch(')');
}

void report_headline(const request& r, const char* what) noexcept {
  message m;
  char name[16];
  plat::thread_name(name, sizeof name);
  m.text().str(name).str(": ").str(what).str(": order:").dec(r.order);
  append_mode(m.text(), r.gfp);
  m.text().str(", nodemask=(null)");
  append_task(m.text());
  const void* pcs[printk_max_pcs];
  const unsigned n = capture_stack(pcs, printk_max_pcs);
  m.send(log_level::warning, pcs, n);
}

void report_totals(page_allocator& pa) noexcept {
  uint64_t charged = 0, free = 0, in_lists = 0, present = 0, transit = 0, reserve = 0;
  for (const zone& z : pa.zones) {
    if (z.nr_blocks == 0) continue;
    charged += zone_charged(pa, z);
    free += zone_free(z);
    in_lists += zone_in_cpu_lists(pa, z);
    present += z.present_free.load_relaxed();
    transit += z.in_transit.load_relaxed();
    reserve += z.reserve.nr_pages.load_relaxed();
  }
  message m;
  m.text().str("Mem-Info:\ncharged:").dec(charged).str(" metadata:").dec(pa.metadata_pages.load_relaxed());
  m.text().str(" limit:").dec(pa.limit.raw()).str("\n free:").dec(free).str(" free_pcp:").dec(in_lists).str(" present_free:").dec(present);
  m.text().str("\n reserve:").dec(reserve).str(" memalloc_pool:").dec(pa.memalloc_pool.nr_pages.load_relaxed());
  m.text().str(" in_transit:").dec(transit).str(" deferred:").dec(pa.deferred.nr_pages.load_relaxed());
  m.send(log_level::warning);
}

void report_zone(page_allocator& pa, zone& z) noexcept {
  zone_snapshot s;
  snapshot_zone(pa, z.idx, s);
  const char* const name = zone_name(z.idx);
  message m;
  text_writer& text = m.text();
  text.str("Node 0 ").str(name);
  kbytes(text, "free", s.free);
  kbytes(text, "min", s.min);
  kbytes(text, "low", s.low);
  kbytes(text, "high", s.high);
  kbytes(text, "present_free", s.present_free);
  kbytes(text, "reserve", s.reserve);
  kbytes(text, "charged", s.charged);
  kbytes(text, "in_transit", s.in_transit);
  kbytes(text, "spanned", s.spanned);
  kbytes(text, "managed", s.managed);
  kbytes(text, "free_pcp", s.in_cpu_lists);
  text.str("\nlowmem_reserve[]:");
  for (const uint64_t pages : z.lowmem_reserve) text.ch(' ').dec(pages);
  text.str("\nNode 0 ").str(name).ch(':');
  uint64_t sum = 0;
  for (unsigned order = 0; order < 11; ++order) {
    uint64_t runs = 0;
    for (const uint64_t of_type : s.nr_free_runs[order]) runs += of_type;
    sum += runs << order;
    text.ch(' ').dec(runs).ch('*').dec(uint64_t{page_size >> 10} << order).str("kB");
    if (runs == 0) continue;
    text.str(" (");
    for (unsigned type = 0; type < nr_migratetypes; ++type)
      if (s.nr_free_runs[order][type] != 0) text.ch("UME"[type]);
    text.ch(')');
  }
  text.str(" = ").dec(sum << (page_shift - 10)).str("kB");
  m.send(log_level::warning);
}

void report_order(page_allocator& pa, const request& r) noexcept {
  uint32_t missed = 0;
  if (!pa.page_order_reports.allow(plat::now_ns(), missed)) return;
  const report_guard guard;
  if (guard.nested()) return;
  message m;
  m.text().str("WARNING: an allocation of ").dec(r.n).str(" pages is more than MAX_ORDER permits: order:").dec(r.order);
  append_mode(m.text(), r.gfp);
  append_task(m.text());
  const void* pcs[printk_max_pcs];
  const unsigned n = capture_stack(pcs, printk_max_pcs);
  m.send(log_level::warning, pcs, n);
}

void warn(page_allocator& pa, const request& r) noexcept {
  uint32_t missed = 0;
  if (!pa.page_failure_reports.allow(plat::now_ns(), missed)) return;
  const report_guard guard;
  if (guard.nested()) return;
  if (missed != 0) {
    message m;
    m.text().str("page allocation failure: ").dec(missed).str(" reports suppressed");
    m.send(log_level::warning);
  }
  report_headline(r, r.kind == request_kind::charge ? "page charge failure" : "page allocation failure");
  report_totals(pa);
  for (zone& z : pa.zones)
    if (z.nr_blocks != 0) report_zone(pa, z);
  for (const reclaim_ops& ops : pa.ops)
    if (ops.report != nullptr) ops.report(ops.context, r.gfp);
}

void keep_record(page_allocator& pa, const request& r, chain_step reached) noexcept {
  const uint64_t sequence = pa.failure_sequence.fetch_add_relaxed(1) + 1;
  const zone& z = pa.zones[raw(r.highest)];
  alloc_failure f;
  f.sequence = sequence;
  f.time_ns = plat::now_ns();
  f.gfp = r.gfp;
  f.order = r.order;
  f.bytes = r.bytes;
  f.reached = reached;
  f.zone = static_cast<uint8_t>(r.highest);
  f.managed = z.managed.load_relaxed();
  f.charged = z.nr_blocks != 0 ? zone_charged(pa, z) : 0;
  f.free = zone_free(z);
  f.reserve = z.reserve.nr_pages.load_relaxed();
  f.in_cpu_lists = zone_in_cpu_lists(pa, z);
  f.in_transit = z.in_transit.load_relaxed();
  f.limit = pa.limit.raw();
  f.metadata = pa.metadata_pages.load_relaxed();
  f.preempt_count = current().preempt_count;
  plat::thread_name(f.comm, sizeof f.comm);
  f.nr_pcs = capture_stack(f.pcs, printk_max_pcs);
  if (r.cache != nullptr) text_writer(f.cache, sizeof f.cache).str(r.cache);
  pa.failures[(sequence - 1) % nr_failure_records].store(f);
}

}  // namespace

void fail_request(page_allocator& pa, const request& r, chain_step reached, bool injected) noexcept {
  if (may_block(r.gfp)) current().last_wait = static_cast<uint8_t>(r.outcome);
  if (r.quiet) return;
  pa.stats.pgalloc_fail.fetch_add_relaxed(1);
  keep_record(pa, r, reached);
  if (has(r.gfp, gfp::nowarn) || injected) return;
  if (r.kind == request_kind::block && r.order >= pa.max_order)
    report_order(pa, r);
  else
    warn(pa, r);
}

void keep_failure(page_allocator& pa, gfp_t gfp, uint64_t bytes, const char* cache) noexcept {
  // However the requests ended that it made before, such as for a descriptor: waiting would not have helped.
  if (may_block(gfp)) current().last_wait = static_cast<uint8_t>(wait_outcome::exhausted);
  request r = make_request(pa, gfp, pages_for(bytes).raw(), request_kind::run);
  r.bytes = bytes;
  r.cache = cache;
  keep_record(pa, r, chain_step::refused);
}

void report_stall(page_allocator& pa, const request& r, uint64_t waited_ns) noexcept {
  const report_guard guard;
  if (guard.nested()) return;
  message m;
  m.text().str("page allocation stalls for ").dec(waited_ns / 1'000'000).str("ms, order:").dec(r.order);
  append_mode(m.text(), r.gfp);
  m.text().str(": it may not fail, and waits until somebody frees");
  append_task(m.text());
  const void* pcs[printk_max_pcs];
  const unsigned n = capture_stack(pcs, printk_max_pcs);
  m.send(log_level::warning, pcs, n);
  report_totals(pa);
}

void report_bad_page(page_allocator& pa, const page* p, const char* what) noexcept {
  pa.stats.bad_pages.fetch_add_relaxed(1);
  uint32_t missed = 0;
  if (!pa.bad_page_reports.allow(plat::now_ns(), missed)) return;
  const report_guard guard;
  if (guard.nested()) return;
  message m;
  m.text().str("BUG: Bad page state: ").str(what);
  if (p != nullptr) {
    static constexpr const char* kinds[] = {"absent",    "free", "cpu_list", "reserve",   "transit",
                                            "allocated", "tail", "slab",     "slab_tail", "unusable", "deferred"};
    m.text().str("\npfn:0x").hex(pa.pfn_of(p).raw()).str(" kind:").str(kinds[static_cast<unsigned>(p->kind)]);
    m.text().str(" order:").dec(p->order).str(" refcount:").dec(p->refcount.load_relaxed());
    m.text().str(" flags:0x").hex(p->flags);
  }
  append_task(m.text());
  const void* pcs[printk_max_pcs];
  const unsigned n = capture_stack(pcs, printk_max_pcs);
  m.send(log_level::alert, pcs, n);
}

const char* zone_name(zone_idx idx) noexcept {
  static constexpr const char* names[nr_zones] = {"DMA", "DMA32", "Normal", "HighMem", "Movable"};
  return static_cast<unsigned>(idx) < nr_zones ? names[static_cast<unsigned>(idx)] : "?";
}

bool read_failure(page_allocator& pa, uint64_t sequence, alloc_failure& result) noexcept {
  return sequence != 0 && pa.failures[(sequence - 1) % nr_failure_records].load(sequence, result);
}

void report_deadlock(page_allocator& pa, const request& r, uint32_t threads) noexcept {
  uint32_t missed = 0;
  if (!pa.deadlock_reports.allow(plat::now_ns(), missed)) return;
  const report_guard guard;
  if (guard.nested()) return;
  message m;
  m.text().str("memory deadlock: all ").dec(threads).str(" threads of the process have waited for memory for over a second, and nobody is");
  m.text().str(" left to free any: raise mem=, register caches that can give back, or let waits end (vm.alloc_wait_ms, a deadline)");
  m.text().str("\norder:").dec(r.order);
  append_mode(m.text(), r.gfp);
  append_task(m.text());
  const void* pcs[printk_max_pcs];
  const unsigned n = capture_stack(pcs, printk_max_pcs);
  m.send(log_level::err, pcs, n);
  report_totals(pa);
}

void report_hopeless(const request& r, uint64_t largest) noexcept {
  const report_guard guard;
  if (guard.nested()) return;
  message m;
  m.text().str("a request for ").dec(r.n).str(" pages is refused at once: no zone that it may use will ever have so many to give;");
  m.text().str(" the most is ").dec(largest).str(" (raise mem=)");
  m.send(log_level::warning);
}

void keep_sleep_record(page_allocator& pa, sleep_record& record) noexcept {
  record.sequence = pa.sleep_sequence.fetch_add_relaxed(1) + 1;
  pa.sleeps[(record.sequence - 1) % nr_sleep_records].store(record);
}

bool read_sleep(page_allocator& pa, uint64_t sequence, sleep_record& result) noexcept {
  return sequence != 0 && pa.sleeps[(sequence - 1) % nr_sleep_records].load(sequence, result);
}

}  // inline namespace
}  // namespace kmem
