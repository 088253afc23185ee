/*
 * Locks between threads and against interrupts.
 */
#include <linux/interrupt.h>
#include <linux/mutex.h>
#include <linux/semaphore.h>
#include <linux/spinlock.h>

#include "check.h"

#define ROUNDS 3000
static DEFINE_SPINLOCK(spin);
static DEFINE_RWLOCK(rw);
static DEFINE_MUTEX(mutex);
static DEFINE_SEMAPHORE(sem, 1);
static long spin_count, rw_count, mutex_count, sem_count, irq_count;
static int go;

static irqreturn_t handler(int irq, void *device) {
  (void)irq;
  (void)device;
  spin_lock(&spin);
  ++spin_count;
  ++irq_count;
  spin_unlock(&spin);
  return IRQ_HANDLED;
}

static void *body(void *argument) {
  unsigned long flags;
  WAIT_UNTIL(READ_ONCE(go));
  for (int i = 0; i < ROUNDS; ++i) {
    spin_lock_irqsave(&spin, flags);
    CHECK(in_atomic() && irqs_disabled());
    ++spin_count;
    if (i % 100 == 0) pthread_kill(pthread_self(), kmem_irq_signal(5));
    spin_unlock_irqrestore(&spin, flags);
    if (i % 4 == 0) {
      write_lock(&rw);
      ++rw_count;
      write_unlock(&rw);
    } else {
      long seen;
      read_lock(&rw);
      seen = rw_count;
      CHECK(preempt_count() == 1 && seen == READ_ONCE(rw_count));
      read_unlock(&rw);
    }
    mutex_lock(&mutex);
    ++mutex_count;
    mutex_unlock(&mutex);
    down(&sem);
    ++sem_count;
    up(&sem);
  }
  return argument;
}

int main(void) {
  unsigned long threads[4], flags;
  CHECK(request_irq(5, handler, 0, "device", NULL) == 0);
  for (int i = 0; i < 4; ++i) CHECK(pthread_create(&threads[i], NULL, body, NULL) == 0);
  WRITE_ONCE(go, 1);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  CHECK(irq_count == 4 * ROUNDS / 100);
  CHECK(spin_count == 4 * ROUNDS + irq_count);
  CHECK(rw_count == ROUNDS && mutex_count == 4 * ROUNDS && sem_count == 4 * ROUNDS);
  free_irq(5, NULL);

  CHECK(spin_trylock(&spin));
  lockdep_assert_held(&spin);
  CHECK(preempt_count() == 1);
  spin_unlock(&spin);
  CHECK(write_trylock(&rw));
  CHECK(!read_trylock(&rw));
  write_unlock(&rw);
  CHECK(read_trylock(&rw));
  CHECK(!write_trylock(&rw));
  read_unlock(&rw);
  CHECK(mutex_trylock(&mutex) && mutex_is_locked(&mutex) && !mutex_trylock(&mutex));
  mutex_unlock(&mutex);
  local_irq_save(flags);
  CHECK(spin_trylock_irqsave(&spin, flags));
  spin_unlock_irqrestore(&spin, flags);
  CHECK(irqs_disabled());
  local_irq_enable();
  CHECK(!in_atomic() && preemptible());
  return 0;
}
