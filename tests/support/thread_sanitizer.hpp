// Is this a build for ThreadSanitizer? It keeps signals back until a library call, merges those that wait, and lets no thread start in the
// child of a process that had several.
#pragma once
#if defined(__SANITIZE_THREAD__)
#define KMEM_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KMEM_UNDER_TSAN 1
#endif
#endif
#if !defined(KMEM_UNDER_TSAN)
#define KMEM_UNDER_TSAN 0
#endif
