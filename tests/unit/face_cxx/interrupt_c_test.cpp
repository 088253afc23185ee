// The C names of interrupts, tasklets and timers.
#include <kmem/context.hpp>
#include <kmem/kmem.h>

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <thread>

#include "interrupt/interrupt.hpp"

namespace {

std::atomic<int> runs;

void wait_for(int wanted) {
  while (runs != wanted) std::this_thread::yield();
}

class InterruptC : public testing::Test {
 protected:
  void SetUp() override {
    kmem::reset_interrupts();
    runs = 0;
  }
  void TearDown() override { kmem::stop_interrupt_service(); }
};

TEST_F(InterruptC, Tasklets) {
  kmem_tasklet t = {};
  t.function = [](kmem_tasklet* self) { runs += static_cast<int>(self->data); };
  t.data = 5;
  EXPECT_TRUE(kmem_tasklet_schedule(&t));
  wait_for(5);
  kmem_tasklet_disable(&t);
  kmem_tasklet_disable_nosync(&t);
  EXPECT_TRUE(kmem_tasklet_hi_schedule(&t));
  EXPECT_FALSE(kmem_tasklet_schedule(&t));
  kmem_tasklet_enable(&t);
  EXPECT_EQ(runs, 5);
  kmem_tasklet_enable(&t);
  wait_for(10);
  kmem_tasklet_kill(&t);
}

TEST_F(InterruptC, Timers) {
  kmem_timer t = {};
  t.function = [](kmem_timer* self) {
    if (++runs < 2) kmem_mod_timer(self, kmem_jiffies() + 1);
  };
  t.expires = kmem_jiffies();
  kmem_add_timer(&t);
  wait_for(2);
  EXPECT_FALSE(kmem_del_timer_sync(&t));
  EXPECT_FALSE(kmem_mod_timer_pending(&t, 0));
  EXPECT_FALSE(kmem_mod_timer(&t, kmem_jiffies() + 100000));
  EXPECT_TRUE(kmem_timer_reduce(&t, kmem_jiffies() + 90000));
  EXPECT_TRUE(kmem_timer_pending(&t));
  EXPECT_EQ(kmem_try_to_del_timer_sync(&t), 1);
  EXPECT_FALSE(kmem_del_timer(&t));
  EXPECT_FALSE(kmem_timer_shutdown_sync(&t));
  EXPECT_FALSE(kmem_mod_timer(&t, 0));
  EXPECT_FALSE(kmem_timer_pending(&t));
}

TEST_F(InterruptC, Interrupts) {
  int device = 0;
  const auto handler = [](int, void* p) {
    ++*static_cast<int*>(p);
    return kmem::in_interrupt() ? 1 : 0;
  };
  ASSERT_EQ(kmem_request_irq(20, handler, KMEM_IRQ_SHARED, "device", &device), 0);
  pthread_kill(pthread_self(), kmem_irq_signal(20));
  kmem_raise_irq(20);
  EXPECT_EQ(device, 2);
  kmem_disable_irq(20);
  kmem_disable_irq_nosync(20);
  kmem_raise_irq(20);
  kmem_enable_irq(20);
  EXPECT_EQ(device, 2);
  kmem_enable_irq(20);
  EXPECT_EQ(device, 3);
  kmem_synchronize_irq(20);
  kmem_free_irq(20, &device);
  EXPECT_EQ(kmem_request_irq(kmem_nr_irqs(), handler, 0, "device", nullptr), -22);
}

}  // namespace
