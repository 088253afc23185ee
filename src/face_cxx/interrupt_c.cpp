// The C names of interrupts, tasklets and timers: each function is its C++ counterpart under another name, on the same objects.
//
// Contexts. As the counterparts. Tests. tests/unit/face_cxx/interrupt_c_test.cpp, tests/linux/
#include <kmem/interrupt.hpp>
#include <kmem/kmem.h>

namespace {

template <class Cxx, class C>
constexpr bool same_layout = sizeof(Cxx) == sizeof(C) && alignof(Cxx) == alignof(C) && offsetof(Cxx, function) == offsetof(C, function) &&
                             offsetof(Cxx, data) == offsetof(C, data) && offsetof(Cxx, flags) == offsetof(C, flags) &&
                             offsetof(Cxx, state) == offsetof(C, state) && offsetof(Cxx, next) == offsetof(C, next);
static_assert(same_layout<kmem::tasklet, kmem_tasklet>);
static_assert(same_layout<kmem::timer, kmem_timer> && offsetof(kmem::timer, expires) == offsetof(kmem_timer, expires));
static_assert(KMEM_CALLS_BY_DATA == kmem::calls_by_data && KMEM_TIMER_IRQ_SAFE == kmem::timer_irq_safe &&
              KMEM_IRQ_SHARED == kmem::irq_shared);

kmem::tasklet& cxx(kmem_tasklet* t) noexcept { return *reinterpret_cast<kmem::tasklet*>(t); }
kmem::timer& cxx(kmem_timer* t) noexcept { return *reinterpret_cast<kmem::timer*>(t); }

}  // namespace

extern "C" {

bool kmem_tasklet_schedule(kmem_tasklet* tasklet) { return kmem::tasklet_schedule(cxx(tasklet)); }
bool kmem_tasklet_hi_schedule(kmem_tasklet* tasklet) { return kmem::tasklet_hi_schedule(cxx(tasklet)); }
void kmem_tasklet_disable(kmem_tasklet* tasklet) { kmem::tasklet_disable(cxx(tasklet)); }
void kmem_tasklet_disable_nosync(kmem_tasklet* tasklet) { kmem::tasklet_disable_nosync(cxx(tasklet)); }
void kmem_tasklet_enable(kmem_tasklet* tasklet) { kmem::tasklet_enable(cxx(tasklet)); }
void kmem_tasklet_kill(kmem_tasklet* tasklet) { kmem::tasklet_kill(cxx(tasklet)); }

uint64_t kmem_jiffies(void) { return kmem::jiffies(); }
void kmem_add_timer(kmem_timer* timer) { kmem::add_timer(cxx(timer)); }
bool kmem_mod_timer(kmem_timer* timer, uint64_t expires) { return kmem::mod_timer(cxx(timer), expires); }
bool kmem_mod_timer_pending(kmem_timer* timer, uint64_t expires) { return kmem::mod_timer_pending(cxx(timer), expires); }
bool kmem_timer_reduce(kmem_timer* timer, uint64_t expires) { return kmem::timer_reduce(cxx(timer), expires); }
bool kmem_del_timer(kmem_timer* timer) { return kmem::del_timer(cxx(timer)); }
int kmem_try_to_del_timer_sync(kmem_timer* timer) { return kmem::try_to_del_timer_sync(cxx(timer)); }
bool kmem_del_timer_sync(kmem_timer* timer) { return kmem::del_timer_sync(cxx(timer)); }
bool kmem_timer_shutdown_sync(kmem_timer* timer) { return kmem::timer_shutdown_sync(cxx(timer)); }
bool kmem_timer_pending(const kmem_timer* timer) { return kmem::timer_pending(cxx(const_cast<kmem_timer*>(timer))); }

int kmem_nr_irqs(void) { return kmem::nr_irqs(); }
int kmem_irq_signal(int irq) { return kmem::irq_signal(irq); }
int kmem_request_irq(int irq, kmem_irq_handler_t handler, uint32_t flags, const char* name, void* device) {
  return kmem::request_irq(irq, reinterpret_cast<kmem::irq_handler>(handler), flags, name, device);
}
void kmem_free_irq(int irq, void* device) { kmem::free_irq(irq, device); }
void kmem_disable_irq(int irq) { kmem::disable_irq(irq); }
void kmem_disable_irq_nosync(int irq) { kmem::disable_irq_nosync(irq); }
void kmem_enable_irq(int irq) { kmem::enable_irq(irq); }
void kmem_synchronize_irq(int irq) { kmem::synchronize_irq(irq); }
void kmem_raise_irq(int irq) { kmem::raise_irq(irq); }

}  // extern "C"
