/* NULL, bool, offsetof. */
#ifndef KMEM_LINUX_STDDEF_H
#define KMEM_LINUX_STDDEF_H

#undef NULL
#define NULL ((void *)0)
#ifndef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif
#define sizeof_field(type, member) sizeof(((type *)0)->member)
#define offsetofend(type, member) (offsetof(type, member) + sizeof_field(type, member))
#ifndef __bool_true_false_are_defined
#define bool _Bool
enum { false = 0, true = 1 };
#endif

#endif
