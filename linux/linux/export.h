/* Names that modules give each other: in a program the linker sees them all. */
#ifndef KMEM_LINUX_EXPORT_H
#define KMEM_LINUX_EXPORT_H

#define EXPORT_SYMBOL(name) _Static_assert(1, #name)
#define EXPORT_SYMBOL_GPL(name) EXPORT_SYMBOL(name)
#define THIS_MODULE ((struct module *)0)

#endif
