#include "progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "table.hpp"
#include "text.hpp"
#include "units.hpp"

namespace kmem::tool::report {

namespace {

constexpr std::uint64_t interval_ns = 100'000'000;  // ten times a second looks steady and costs nothing

[[nodiscard]] std::size_t columns_of(int descriptor) noexcept {
  winsize size{};
  const bool known = ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col != 0;
  return known ? size.ws_col : 80;
}

[[nodiscard]] std::uint64_t steady_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

void write_all(int descriptor, const std::string& text) {
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t now = ::write(descriptor, text.data() + written, text.size() - written);
    if (now <= 0) {
      return;  // a progress line is not worth an error
    }
    written += static_cast<std::size_t>(now);
  }
}

}  // namespace

progress_bar::progress_bar(int descriptor) : clock_ns_(steady_ns) {
  if (isatty(descriptor) == 0) {
    return;
  }
  const text_options options = options_for_stream(descriptor);
  write_ = [descriptor](const std::string& text) { write_all(descriptor, text); };
  columns_ = columns_of(descriptor);
  colour_ = options.colour;
  unicode_ = options.unicode;
}

progress_bar::progress_bar(std::function<void(const std::string&)> write, std::function<std::uint64_t()> clock_ns, std::size_t columns,
                           bool colour, bool unicode)
    : write_(std::move(write)), clock_ns_(std::move(clock_ns)), columns_(columns), colour_(colour), unicode_(unicode) {}

progress_bar::~progress_bar() { clear(); }

void progress_bar::update(const progress_state& state) {
  if (!write_) {
    return;
  }
  const std::uint64_t now = clock_ns_();
  if (!started_) {
    started_ = true;
    start_ns_ = now;
  } else if (now - last_ns_ < interval_ns) {
    return;
  }
  last_ns_ = now;
  // One column less than the terminal has: a full line would wrap on some.
  write_("\r" + line(state, now - start_ns_, columns_ > 1 ? columns_ - 1 : 1, colour_, unicode_) + "\x1b[K");
  drawn_ = true;
}

void progress_bar::clear() {
  if (drawn_) {
    write_("\r\x1b[K");
    drawn_ = false;
    last_ns_ = 0;
  }
}

std::string progress_bar::line(const progress_state& state, std::uint64_t elapsed_ns, std::size_t columns, bool colour, bool unicode) {
  const std::string percent_text =
      state.whole == 0
          ? ""
          : fmt::format("{:>3.0f} %", std::min(100.0, 100.0 * static_cast<double>(state.done) / static_cast<double>(state.whole)));
  std::vector<std::pair<std::string, tint>> parts;
  parts.emplace_back(short_count(state.events) + " events", tint::none);
  parts.emplace_back(short_count(per_second(state.events, elapsed_ns)) + "/s", tint::none);
  parts.emplace_back(fmt::format("charged {} of {}", human_bytes(state.charged_bytes), human_bytes(state.budget_bytes)), tint::cyan);
  if (state.failed != 0) {
    parts.emplace_back(short_count(state.failed) + " failed", tint::red);
  }
  // What does not fit is left out from the end; the bar takes the rest, at most 30 columns.
  std::string out = percent_text;
  std::size_t width = display_width(out);
  std::string tail;
  for (const auto& [text, shade] : parts) {
    const std::size_t needed = display_width(text) + 2;
    if (width + needed > columns) {
      break;
    }
    width += needed;
    tail += "  " + tinted(text, shade, colour);
  }
  if (state.whole != 0 && columns > width + 8) {
    out =
        tinted(text_bar(state.done, state.whole, std::min<std::size_t>(30, columns - width - 1), unicode), tint::blue, colour) + " " + out;
  }
  return width > columns ? std::string() : out + tail;
}

}  // namespace kmem::tool::report
