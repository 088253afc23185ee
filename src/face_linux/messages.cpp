// printk, WARN, BUG and panic of the linux headers, into the library's ring of messages.
//
// Contexts. Any: nothing waits or allocates. Tests. tests/linux/
// Kernel.   Formats are the C library's: %p with letters behind it prints the address and then the letters.
#include <cstdarg>
#include <cstdio>

#include "face_linux/face_linux.hpp"

namespace kmem {

void report_at(log_level level, const char* text, size_t length) noexcept {
  const void* pcs[printk_max_pcs];
  const unsigned nr_pcs = capture_stack(pcs, printk_max_pcs);
  printk(level, text, length < printk_record_bytes ? length : printk_record_bytes, pcs, nr_pcs);
}

namespace {

/// Formats into `buffer`. Return: what there is of the text.
size_t format_into(char* buffer, size_t capacity, const char* format, va_list arguments) noexcept {
  const int wanted = vsnprintf(buffer, capacity, format, arguments);
  if (wanted < 0) return 0;
  return static_cast<size_t>(wanted) < capacity ? static_cast<size_t>(wanted) : capacity - 1;
}

}  // namespace
}  // namespace kmem

using namespace kmem;

extern "C" {

int kmem_linux_vprintk(const char* format, va_list arguments) {
  log_level level = log_level::warning;  // the kernel's for a message without one
  if (format[0] == '\001' && format[1] != '\0') {
    if (format[1] >= '0' && format[1] <= '7') level = static_cast<log_level>(format[1] - '0');
    format += 2;
  }
  char buffer[printk_record_bytes];
  size_t length = format_into(buffer, sizeof buffer, format, arguments);
  const auto result = static_cast<int>(length);
  if (length != 0 && buffer[length - 1] == '\n') --length;
  printk(level, buffer, length);
  return result;
}

int kmem_linux_printk(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int result = kmem_linux_vprintk(format, arguments);
  va_end(arguments);
  return result;
}

// High 48 bits: start of the window in ms; low 16: messages in it.
bool kmem_linux_ratelimit(unsigned long long* state) {
  constexpr uint64_t window_ms = 5000, burst = 10;
  const uint64_t now = plat::now_ns() / 1'000'000;
  unsigned long long seen = __atomic_load_n(state, __ATOMIC_RELAXED);
  for (;;) {
    const bool fresh = seen == 0 || now - (seen >> 16) >= window_ms;
    if (!fresh && (seen & 0xffff) >= burst) return false;
    const unsigned long long wanted = fresh ? now << 16 | 1 : seen + 1;
    if (__atomic_compare_exchange_n(state, &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return true;
  }
}

void kmem_linux_warn(const char* file, int line, const char* function, const char* format, ...) {
  char buffer[printk_record_bytes];
  text_writer text(buffer, sizeof buffer);
  text.str("WARNING: CPU: ").dec(static_cast<uint64_t>(plat::cpu())).str(" PID: ").dec(static_cast<uint64_t>(plat::thread_id()));
  text.str(" at ").str(file).ch(':').sdec(line).ch(' ').str(function).ch('\n');
  size_t length = text.length() < sizeof buffer ? text.length() : sizeof buffer - 1;
  va_list arguments;
  va_start(arguments, format);
  length += format_into(buffer + length, sizeof buffer - length, format, arguments);
  va_end(arguments);
  report_at(log_level::warning, buffer, length);
}

void kmem_linux_bug(const char* file, int line, const char* function) {
  char buffer[300];
  text_writer text(buffer, sizeof buffer);
  text.str("kernel BUG at ").str(file).ch(':').sdec(line).str("! (").str(function).ch(')');
  report_at(log_level::crit, buffer, text.length() < sizeof buffer ? text.length() : sizeof buffer - 1);
  plat::die();
}

void kmem_linux_panic(const char* format, ...) {
  char buffer[printk_record_bytes];
  text_writer text(buffer, sizeof buffer);
  text.str("Kernel panic - not syncing: ");
  size_t length = text.length();
  va_list arguments;
  va_start(arguments, format);
  length += format_into(buffer + length, sizeof buffer - length, format, arguments);
  va_end(arguments);
  report_at(log_level::emerg, buffer, length);
  plat::die();
}

int kmem_linux_vsnprintf(char* buffer, size_t size, const char* format, va_list arguments) {
  return vsnprintf(buffer, size, format, arguments);
}

char* kmem_linux_vasprintf(uint32_t gfp, const char* format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  const int length = vsnprintf(nullptr, 0, format, arguments);
  const auto size = static_cast<size_t>(length) + 1;
  auto* const text = length < 0 ? nullptr : static_cast<char*>(kmem::kmalloc(size, gfp_t(gfp)));
  if (text != nullptr) vsnprintf(text, size, format, again);
  va_end(again);
  return text;
}

char* kmem_linux_asprintf(uint32_t gfp, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char* const text = kmem_linux_vasprintf(gfp, format, arguments);
  va_end(arguments);
  return text;
}

int kmem_linux_snprintf(char* buffer, size_t size, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int result = vsnprintf(buffer, size, format, arguments);
  va_end(arguments);
  return result;
}

}  // extern "C"
