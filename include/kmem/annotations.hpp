// Clang's thread-safety analysis under short names; empty for other compilers.
//
// "Atomic context" is a capability of its own: guards that enter atomic context acquire it, and whatever may sleep excludes it.
// So kmalloc<gfp::kernel> under a spin lock does not compile with clang.
#pragma once

#if defined(__clang__)
#define KMEM_TSA(x) __attribute__((x))
#else
#define KMEM_TSA(x)
#endif

#define KMEM_CAPABILITY(name) KMEM_TSA(capability(name))
#define KMEM_SCOPED_CAPABILITY KMEM_TSA(scoped_lockable)
#define KMEM_GUARDED_BY(lock) KMEM_TSA(guarded_by(lock))
#define KMEM_ACQUIRE(...) KMEM_TSA(acquire_capability(__VA_ARGS__))
#define KMEM_RELEASE(...) KMEM_TSA(release_capability(__VA_ARGS__))
#define KMEM_TRY_ACQUIRE(...) KMEM_TSA(try_acquire_capability(__VA_ARGS__))
#define KMEM_REQUIRES(...) KMEM_TSA(requires_capability(__VA_ARGS__))
#define KMEM_EXCLUDES(...) KMEM_TSA(locks_excluded(__VA_ARGS__))
#define KMEM_ASSERT_CAPABILITY(...) KMEM_TSA(assert_capability(__VA_ARGS__))
#define KMEM_NO_ANALYSIS KMEM_TSA(no_thread_safety_analysis)
