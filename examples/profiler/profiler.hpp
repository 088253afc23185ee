// A profiler to be linked into a program: start() once, a thread_timer in each thread, aggregate() now and then, print() at the end.
#pragma once
#include <time.h>

namespace profiler {

/// Makes SIGPROF take samples. Return: false, and errno says why.
bool start();

/// While it lives, the thread that made it is sampled.
class thread_timer {
 public:
  explicit thread_timer(unsigned per_second);
  ~thread_timer();
  thread_timer(const thread_timer&) = delete;
  thread_timer& operator=(const thread_timer&) = delete;
  [[nodiscard]] bool running() const { return running_; }

 private:
  timer_t timer_ = {};
  bool running_ = false;
};

/// Adds the samples so far to the table, and frees them. By one thread.
void aggregate();
void print();
unsigned long kept();
unsigned long dropped();

}  // namespace profiler
