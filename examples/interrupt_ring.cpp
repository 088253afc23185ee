// A driver in the manner of the specification: an interrupt handler takes a buffer with GFP_ATOMIC for every packet of the device and puts
// it into a ring; a tasklet counts, and the process empties the ring when it gets to it. The device does not wait: when the process is late
// the reserve runs out, packets are dropped, and the driver knows how many and why.
//
// The device is a thread that sends real signals. Build: c++ -std=c++20 -Iinclude examples/interrupt_ring.cpp build/lib/libkmem.a -lpthread
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include <kmem/info.hpp>
#include <kmem/interrupt.hpp>
#include <kmem/kmem.hpp>

namespace {

constexpr int irq = 3;
constexpr unsigned nr_packets = 20'000, ring_slots = 1024;

struct packet {
  unsigned number;
  unsigned length;
  unsigned char bytes[1500];
};

/// One producer, the handler; one consumer, the thread that it interrupts. So no lock: what is written is seen in order on one thread.
struct ring {
  packet* slots[ring_slots] = {};
  std::atomic<unsigned> head{0}, tail{0};

  bool push(packet* p) noexcept {
    const unsigned at = head.load(std::memory_order_relaxed);
    if (at - tail.load(std::memory_order_acquire) == ring_slots) return false;
    slots[at % ring_slots] = p;
    head.store(at + 1, std::memory_order_release);
    return true;
  }
  packet* pop() noexcept {
    const unsigned at = tail.load(std::memory_order_relaxed);
    if (at == head.load(std::memory_order_acquire)) return nullptr;
    packet* const p = slots[at % ring_slots];
    tail.store(at + 1, std::memory_order_release);
    return p;
  }
};

struct driver {
  ring received;
  std::atomic<unsigned> arrived{0}, no_memory{0}, no_slot{0};
  std::atomic<unsigned> seen_by_tasklet{0};
  kmem::tasklet bottom_half;
};

driver device;

/// Hard interrupt: may not sleep, so GFP_ATOMIC; it may use even the last free page.
kmem::irq_return on_packet(int, void* data) noexcept {
  auto& d = *static_cast<driver*>(data);
  const unsigned number = d.arrived.fetch_add(1, std::memory_order_relaxed);
  auto* const p = static_cast<packet*>(kmem::kmalloc<kmem::gfp::atomic | kmem::gfp::nowarn>(sizeof(packet)));
  if (p == nullptr) {
    d.no_memory.fetch_add(1, std::memory_order_relaxed);
    return kmem::irq_return::handled;
  }
  p->number = number;
  p->length = 64 + number % 1400;
  std::memset(p->bytes, static_cast<int>(number & 0xff), p->length);
  if (!d.received.push(p)) {
    d.no_slot.fetch_add(1, std::memory_order_relaxed);
    kmem::kfree(p);
    return kmem::irq_return::handled;
  }
  kmem::tasklet_schedule(d.bottom_half);
  return kmem::irq_return::handled;
}

/// Softirq: after the interrupt, still atomic.
void on_bottom_half(kmem::tasklet&) noexcept { device.seen_by_tasklet.fetch_add(1, std::memory_order_relaxed); }

bool intact(const packet& p) {
  for (unsigned i = 0; i < p.length; ++i)
    if (p.bytes[i] != static_cast<unsigned char>(p.number)) return false;
  return true;
}

/// The process has something else to do; interrupts go on.
void be_busy(std::chrono::milliseconds duration) {
  for (const auto end = std::chrono::steady_clock::now() + duration; std::chrono::steady_clock::now() < end;) continue;
}

}  // namespace

int main() {
  char error[200];
  if (!kmem::init("mem=4M", error, sizeof error)) return std::fprintf(stderr, "%s\n", error), 1;
  device.bottom_half.function = on_bottom_half;
  if (const int result = kmem::request_irq(irq, on_packet, 0, "packets", &device); result != 0)
    return std::fprintf(stderr, "request_irq: %d\n", result), 1;

  // Somebody else has most of the memory: what is left for packets is the reserve and a little more.
  std::vector<void*> other;
  while (void* const p = kmem::kmalloc(8192, kmem::gfp::kernel | kmem::gfp::nowarn | kmem::gfp::noretry)) other.push_back(p);

  std::atomic<bool> done{false};
  const pthread_t process = pthread_self();
  std::thread wire([&] {
    for (unsigned i = 0; i < nr_packets; ++i) {
      // A signal that is still pending would swallow the next one if it were an ordinary one; real-time signals queue.
      while (pthread_kill(process, kmem::irq_signal(irq)) != 0) usleep(100);
      if (i % 4 == 3) usleep(50);
    }
    done = true;
  });

  unsigned taken = 0, damaged = 0;
  while (!done || device.arrived.load() < nr_packets || taken + device.no_memory + device.no_slot < nr_packets) {
    packet* const p = device.received.pop();
    if (p == nullptr) continue;
    damaged += intact(*p) ? 0 : 1;
    ++taken;
    kmem::kfree(p);
    if (taken % 500 == 0) be_busy(std::chrono::milliseconds(10));
  }
  wire.join();
  kmem::free_irq(irq, &device);
  kmem::tasklet_kill(device.bottom_half);
  for (void* const p : other) kmem::kfree(p);
  std::printf("%u packets came by interrupts, %u were taken (%u of them damaged), ", device.arrived.load(), taken, damaged);
  std::printf("%u found no memory, %u no slot; the tasklet ran %u times\n", device.no_memory.load(), device.no_slot.load(),
              device.seen_by_tasklet.load());
  const bool all_there = taken + device.no_memory + device.no_slot == nr_packets;
  std::puts(all_there && damaged == 0 ? "every packet is accounted for" : "packets are missing or damaged");
  return all_there && damaged == 0 ? 0 : 1;
}
