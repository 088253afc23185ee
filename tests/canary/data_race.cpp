// Two threads write one int without order, on purpose: ThreadSanitizer must end it, in whatever order they run.
#include <thread>

namespace {
volatile int shared = 0;
}

int main() {
  std::thread other([] { shared = 1; });
  shared = 2;
  other.join();
  return 0;
}
