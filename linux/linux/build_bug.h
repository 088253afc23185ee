/* What must hold when the code is compiled. */
#ifndef KMEM_LINUX_BUILD_BUG_H
#define KMEM_LINUX_BUILD_BUG_H

#include <linux/compiler.h>

#define BUILD_BUG_ON_ZERO(e) ((int)(sizeof(struct { int : (-!!(e)); })))
#define BUILD_BUG_ON_MSG(condition, message) _Static_assert(!(condition), message)
#define BUILD_BUG_ON(condition) BUILD_BUG_ON_MSG(condition, "BUILD_BUG_ON failed: " #condition)
#define static_assert(expression, ...) kmem_static_assert_(expression, ##__VA_ARGS__, #expression)
#define kmem_static_assert_(expression, message, ...) _Static_assert(expression, message)

#endif
