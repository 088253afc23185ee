// Interrupts as in a new process, messages kept, and ksoftirqd ended afterwards.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "interrupt/interrupt.hpp"
#include "support/thread_sanitizer.hpp"
#include "unit/reclaim/machine_fixture.hpp"

namespace kmem::test {

/// ThreadSanitizer holds signals back until the thread calls something that it knows.
inline void let_signals_in() {
#if KMEM_UNDER_TSAN
  usleep(1);
#endif
}

inline void wait_until(const std::function<bool()>& done) {
  while (!done()) {
    std::this_thread::yield();
    let_signals_in();
  }
}

/// Sends an interrupt to a thread. `sent`: how many were sent before. ThreadSanitizer merges waiting signals, so there each is waited for.
inline void interrupt_thread(std::thread& thread, int irq, uint64_t sent) {
  while (pthread_kill(thread.native_handle(), irq_signal(irq)) != 0) std::this_thread::yield();  // the queue of signals is bounded
#if KMEM_UNDER_TSAN
  wait_until([&] { return read_irq_counts(irq).handled == sent + 1; });
#else
  (void)sent;
#endif
}

class interrupt_fixture : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = set_printk_sink(log_sink);
    reset_context_rules();
    reset_interrupts();
    take_log();
  }
  void TearDown() override {
    stop_interrupt_service();
    EXPECT_EQ(plat::nr_service_threads(), 0u);
    EXPECT_EQ(preempt_count(), 0u);
    EXPECT_FALSE(irqs_disabled());
    EXPECT_EQ(interrupts_are_valid(), nullptr);
    EXPECT_EQ(interrupts.misuses.load_relaxed(), expected_misuses);
    EXPECT_EQ(context_violations(), expected_violations);
    set_printk_sink(before_);
    reset_context_rules();
  }
  uint64_t expected_misuses = 0, expected_violations = 0;

 private:
  printk_sink before_ = nullptr;
};

/// A tasklet or timer whose function is a std::function.
template <class Base>
struct with_body : Base {
  explicit with_body(std::function<void()> what) : body(std::move(what)) {
    this->function = [](Base& self) noexcept { static_cast<with_body&>(self).body(); };
  }
  std::function<void()> body;
};
using body_tasklet = with_body<tasklet>;
using body_timer = with_body<timer>;

}  // namespace kmem::test
