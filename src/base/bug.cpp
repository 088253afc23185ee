// The end of a process whose own state cannot be trusted: a report, then death.
//
// Context: any; takes no lock. A bug() inside the report of another one dies at once. With no sink the text still goes to stderr: to die
// in silence helps nobody. Kernel: as BUG(), which stops the task; a library cannot stop one thread that may hold locks.
// Tests: tests/unit/base/bug_test.cpp
#include "base/bug.hpp"

#include "base/context.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

void bug(const char* what, const char* file, int line) noexcept {
  task_context& task = current();
  if (task.in_report) {
    constexpr char nested[] = "kernel BUG inside a report\n";
    plat::write_all(2, nested, sizeof nested - 1);
    plat::die();
  }
  task.in_report = true;
  char name[16];
  plat::thread_name(name, sizeof name);
  char buffer[512];
  text_writer text(buffer, sizeof buffer);
  text.str("------------[ cut here ]------------\nkernel BUG at ").str(file).ch(':').sdec(line).str("!\n").str(what);
  text.str("\nCPU: ").dec(static_cast<uint64_t>(plat::cpu())).str(" PID: ").dec(static_cast<uint64_t>(plat::thread_id()));
  text.str(" Comm: ").str(name).str("\nCall Trace:\n");
  const size_t bytes = text.length() < sizeof buffer ? text.length() : sizeof buffer - 1;
  const void* pcs[printk_max_pcs];
  const unsigned nr_pcs = capture_stack(pcs, printk_max_pcs);
  if (!has_printk_sink()) printk_to_stderr(log_level::emerg, buffer, bytes, pcs, nr_pcs);
  printk(log_level::emerg, buffer, bytes, pcs, nr_pcs);
  plat::die();
}

}  // inline namespace
}  // namespace kmem
