#include <algorithm>
#include <utility>

#include "ftrace.hpp"

namespace kmem::tool::trace {

namespace {

constexpr std::uint64_t lines_between_progress = 8192;

class loader {
 public:
  loader(input& from, const load_options& options, event_list& out) : from_(from), options_(options), out_(out), parser_(out.strings) {}

  bool run() {
    bool good = true;
    while (good) {
      const input::status status = from_.next();
      if (status == input::status::end) break;
      if (status == input::status::line) {
        good = take_line();
      } else {
        keep(from_.error());
        if (status == input::status::bad_line) {
          input_errors_++;
          good = options_.keep_going;
        } else {
          input_errors_++;
          good = options_.keep_going && !out_.events.empty();
          break;
        }
      }
    }
    finish();
    return good && (!out_.events.empty() || no_events());
  }

 private:
  bool take_line() {
    event next;
    switch (parser_.parse(from_.line(), from_.line_number(), next)) {
      case line_parser::outcome::event:
        out_.events.push_back(next);
        break;
      case line_parser::outcome::skipped:
        break;
      case line_parser::outcome::error: {
        trace_error error = parser_.error();
        error.file = from_.name();
        keep(std::move(error));
        if (!options_.keep_going) return false;
        break;
      }
    }
    if (from_.line_number() % lines_between_progress != 0 || !options_.progress) return true;
    if (options_.progress(from_.bytes_read(), from_.bytes_total())) return true;
    trace_error stopped;
    stopped.file = from_.name();
    stopped.line = from_.line_number();
    stopped.what = "reading was stopped";
    keep(std::move(stopped));
    return false;
  }

  // The last error always stays, so that it can be shown.
  void keep(trace_error error) {
    if (out_.errors.size() >= std::max<std::size_t>(options_.errors_kept, 1)) out_.errors.pop_back();
    out_.errors.push_back(std::move(error));
  }

  bool no_events() {
    trace_error error;
    error.file = from_.name();
    error.what = "no allocation event in " + std::to_string(out_.counts.lines) + " lines";
    if (out_.counts.errors != 0) error.what += " (" + std::to_string(out_.counts.errors) + " of them not understood)";
    error.expected = "events kmalloc, kfree, kmem_cache_alloc, kmem_cache_free, mm_page_alloc or mm_page_free";
    error.advice = "record with them enabled: echo 1 > /sys/kernel/tracing/events/kmem/enable";
    keep(std::move(error));
    return false;
  }

  void finish() {
    out_.file = from_.name();
    out_.compression = compression_name(from_.kind());
    out_.file_bytes = from_.bytes_total() != 0 ? from_.bytes_total() : from_.bytes_read();
    out_.kernel = parser_.kernel();
    out_.counts = parser_.counts();
    out_.counts.errors += input_errors_;
    out_.counts.lines = from_.line_number();
  }

  input& from_;
  const load_options& options_;
  event_list& out_;
  line_parser parser_;
  std::uint64_t input_errors_ = 0;
};

}  // namespace

bool load_events(input& from, const load_options& options, event_list& out) { return loader(from, options, out).run(); }

bool load_events(const std::string& path, const load_options& options, event_list& out) {
  input from;
  if (!from.open(path)) {
    out.file = path;
    out.errors.push_back(from.error());
    out.counts.errors++;
    return false;
  }
  return load_events(from, options, out);
}

}  // namespace kmem::tool::trace
